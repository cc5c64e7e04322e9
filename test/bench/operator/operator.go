package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/test/bench/usage"
	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// Operator is the operator's process.
type Operator struct {
	*Cluster
	process *process.Process
	metrics *metrics
}

// Build builds the operator from this checkout, as an image of it is built.
func Build(ctx context.Context, program string) error {
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

// StartOperator starts the program and returns when it leads and can be asked.
func (c *Cluster) StartOperator(ctx context.Context, program string, arguments ...string) (*Operator, error) {
	token, err := c.scraper(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the operator: %w", err)
	}
	metrics, err := newMetrics(token)
	if err != nil {
		return nil, fmt.Errorf("start the operator: %w", err)
	}
	argv := append([]string{program}, arguments...)
	argv = append(argv, "--health-probe-bind-address=0", "--metrics-bind-address="+metrics.address,
		"--namespace="+operatorNamespace, "--allow-addresses=127.0.0.0/8")
	o := &Operator{Cluster: c, metrics: metrics}
	if o.process, err = process.Start(c.janitor, c.dir, filepath.Base(program), []string{"KUBECONFIG=" + c.kubeconfig}, argv...); err != nil {
		return nil, fmt.Errorf("start the operator: %w", err)
	}
	if err := o.awaitLeadership(ctx); err != nil {
		return nil, errors.Join(err, o.Stop(context.WithoutCancel(ctx)))
	}
	return o, nil
}

func (o *Operator) awaitLeadership(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return o.process.WaitReady(ctx, func(ctx context.Context) error {
		lease := &coordinationv1.Lease{}
		if err := o.Client.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: "isthmus"}, lease); err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return errors.New("nobody leads")
		}
		_, err := o.metrics.read(ctx)
		return err
	})
}

// Stop ends the operator.
func (o *Operator) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return o.process.Stop(ctx)
}

// PID of the operator.
func (o *Operator) PID() int { return o.process.PID() }

// Cost is what a span of time cost the operator, and the control plane beside it.
type Cost struct {
	usage.Usage
	ControlPlane time.Duration // CPU of etcd and the API server
}

// measure runs a span and says what it cost.
func (o *Operator) measure(span func() error) (Cost, error) {
	own, err := usage.CPU(o.PID())
	if err != nil {
		return Cost{}, err
	}
	others, err := usage.AllCPU(o.processes)
	if err != nil {
		return Cost{}, err
	}
	if err := span(); err != nil {
		return Cost{}, errors.Join(err, o.process.Err())
	}
	return o.since(own, others)
}

func (o *Operator) since(own, others time.Duration) (cost Cost, err error) {
	ownNow, ownErr := usage.CPU(o.PID())
	othersNow, othersErr := usage.AllCPU(o.processes)
	peak, peakErr := usage.PeakRSS(o.PID())
	cost.CPU, cost.ControlPlane, cost.PeakRSS = ownNow-own, othersNow-others, peak
	return cost, errors.Join(ownErr, othersErr, peakErr)
}
