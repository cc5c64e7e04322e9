package story

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	starts     int
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

// Start starts the operator; it acts once it holds the Lease.
func (o *Operator) Start(context.Context) error {
	o.starts++
	running, err := process.Start(o.bed.janitor, o.bed.dir, fmt.Sprintf("operator-%d", o.starts),
		[]string{"KUBECONFIG=" + o.kubeconfig},
		o.program, "--health-probe-bind-address=0", "--metrics-bind-address=0", "--namespace=isthmus-system",
		// A killed leader's Lease has to run out; the story waits for it three times.
		"--leader-elect-lease-duration=6s")
	if err != nil {
		return fmt.Errorf("start the operator: %w", err)
	}
	o.running = running
	return nil
}

// Kill ends the operator with SIGKILL: it has no chance to tidy up.
func (o *Operator) Kill() error {
	self, err := os.FindProcess(o.running.PID())
	if err != nil {
		return err
	}
	if err := self.Kill(); err != nil {
		return fmt.Errorf("kill the operator: %w", err)
	}
	select {
	case <-o.running.Exited():
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the operator is still there 10 s after SIGKILL")
	}
}

// Logs are the log files of all operator processes of this bed.
func (o *Operator) Logs() []string {
	var logs []string
	for i := 1; i <= o.starts; i++ {
		logs = append(logs, filepath.Join(o.bed.dir, fmt.Sprintf("operator-%d.log", i)))
	}
	return logs
}
