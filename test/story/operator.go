package story

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// operatorUser is who the operator is to the API server: the ServiceAccount to
// which config/rbac gives the operator's role, and nothing more.
const operatorUser = "system:serviceaccount:isthmus-system:isthmus"

// Operator is the operator's process, built from this checkout.
type Operator struct {
	bed        *Bed
	program    string
	kubeconfig string
	running    *process.Process
	logs       []string
}

// startOperator installs what a user would (CRDs, role) and starts the operator under its own identity.
func (b *Bed) startOperator(ctx context.Context) error {
	for _, dir := range []string{"config/crd", "config/rbac"} {
		if err := b.applyDir(ctx, dir); err != nil {
			return err
		}
	}
	kubeconfig, err := b.ControlPlane.KubeconfigFor("operator", operatorUser, "system:serviceaccounts", "system:serviceaccounts:isthmus-system")
	if err != nil {
		return err
	}
	program := filepath.Join(b.dir, "isthmus")
	if err := b.timed("operator's build", func() error { return build(ctx, program) }); err != nil {
		return err
	}
	b.Operator = &Operator{bed: b, program: program, kubeconfig: kubeconfig}
	return b.Operator.Start(ctx)
}

func build(ctx context.Context, program string) error {
	root, err := cache.Root()
	if err != nil {
		return err
	}
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	compile.Dir = root
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("build the operator: %w\n%s", err, out)
	}
	return nil
}

// Another is the same operator under the same identity as a process of its own, not started yet.
func (o *Operator) Another() *Operator {
	return &Operator{bed: o.bed, program: o.program, kubeconfig: o.kubeconfig}
}

// Start starts the operator; it acts once it holds the Lease.
func (o *Operator) Start(context.Context) error {
	o.bed.starts++
	running, err := process.Start(o.bed.janitor, o.bed.dir, fmt.Sprintf("operator-%d", o.bed.starts),
		[]string{"KUBECONFIG=" + o.kubeconfig},
		o.program, "--health-probe-bind-address=0", "--metrics-bind-address=0", "--namespace=isthmus-system",
		"--leader-elect-lease-duration="+o.bed.lease.String())
	if err != nil {
		return fmt.Errorf("start the operator: %w", err)
	}
	o.running = running
	o.logs = append(o.logs, running.Log())
	return nil
}

// Kill ends the operator with SIGKILL: it has no chance to tidy up.
func (o *Operator) Kill() error {
	if err := o.signal(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-o.running.Exited():
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the operator is still there 10 s after SIGKILL")
	}
}

// Freeze stops the operator with SIGSTOP: it does nothing, and knows nothing of it.
func (o *Operator) Freeze() error { return o.signal(syscall.SIGSTOP) }

// Thaw lets a frozen operator go on.
func (o *Operator) Thaw() error { return o.signal(syscall.SIGCONT) }

// Exited is closed when the process that was started last has ended.
func (o *Operator) Exited() <-chan struct{} { return o.running.Exited() }

func (o *Operator) signal(signal os.Signal) error {
	self, err := os.FindProcess(o.running.PID())
	if err != nil {
		return err
	}
	if err := self.Signal(signal); err != nil {
		return fmt.Errorf("signal the operator (%s): %w", signal, err)
	}
	return nil
}

// Logs are the log files of the processes that this operator has had.
func (o *Operator) Logs() []string { return o.logs }
