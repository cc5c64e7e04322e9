package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/isthmus-dev/isthmus/test/bench/operator"
)

// fleetWindow is how long a fleet without controllers is watched: one of its intervals.
const fleetWindow = time.Minute

// idle measures what objects cost on which nothing happens: the fleet by itself,
// and the operator's controllers on a real API server.
func (b *bench) idle(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return errors.Join(b.idleFleet(ctx, self), b.idleOperator(ctx, self))
}

func (b *bench) idleFleet(ctx context.Context, self string) error {
	b.say("a fleet with %d objects on %d hosts", b.idleObjects, b.idleHosts)
	window := min(b.window, fleetWindow)
	cmd := exec.CommandContext(ctx, self, simulation, fmt.Sprintf("-fleet-hosts=%d", b.idleHosts),
		fmt.Sprintf("-fleet-objects=%d", b.idleObjects), "-fleet-window="+window.String())
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("weigh a fleet: %w", err)
	}
	var found weighed
	if err := json.Unmarshal(out, &found); err != nil {
		return fmt.Errorf("weigh a fleet: %w", err)
	}
	result("idle.fleet", field{"hosts", b.idleHosts}, field{"objects", b.idleObjects}, field{"window_s", window.Seconds()},
		field{"bytes_per_object", found.BytesPerObject}, field{"cpu_percent_of_a_core", 100 * found.Cores}, field{"goroutines", found.Goroutines})
	return nil
}

func (b *bench) idleOperator(ctx context.Context, self string) (err error) {
	dir, err := b.part("idle")
	if err != nil {
		return err
	}
	b.say("starting the control plane and the operator, with simulated hosts")
	cluster, err := operator.StartCluster(ctx, b.janitor, filepath.Join(dir, "controlplane"), b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	o, err := cluster.StartOperator(ctx, self, simulation)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Stop(context.WithoutCancel(ctx))) }()
	empty, err := o.Memory(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := o.Populate(ctx, b.idleHosts, b.idleObjects, b.say); err != nil {
		return err
	}
	ready := time.Since(began)
	b.say("all are ready; watching for %s", b.window)
	return b.watchIdle(ctx, o, empty, ready)
}

func (b *bench) watchIdle(ctx context.Context, o *operator.Operator, empty operator.Memory, ready time.Duration) error {
	// What is still being written about the change before is not what is asked about.
	if err := pause(ctx, min(b.window/10, 20*time.Second)); err != nil {
		return err
	}
	idle, err := o.Idle(ctx, b.window)
	if err != nil {
		return err
	}
	full, err := o.Memory(ctx)
	if err != nil {
		return err
	}
	leases := idle.Writes["leases"]
	delete(idle.Writes, "leases")
	writes := 0
	var what []string
	for resource, count := range idle.Writes {
		writes += count
		what = append(what, fmt.Sprintf("%s:%d", resource, count))
	}
	slices.Sort(what)
	objects := float64(b.idleObjects)
	result("idle.operator", field{"hosts", b.idleHosts}, field{"objects", b.idleObjects}, field{"window_s", b.window.Seconds()},
		field{"api_writes", writes}, field{"written", what}, field{"lease_writes", leases}, field{"looks", idle.Looks},
		field{"cpu_percent_of_a_core", 100 * idle.CPU.Seconds() / b.window.Seconds()},
		field{"control_plane_cpu_percent", 100 * idle.ControlPlane.Seconds() / b.window.Seconds()},
		field{"heap_bytes_per_object", float64(full.Heap-empty.Heap) / objects},
		field{"rss_mib", float64(full.RSS) / (1 << 20)}, field{"rss_peak_mib", float64(idle.PeakRSS) / (1 << 20)},
		field{"until_ready_s", ready.Seconds()})
	return nil
}
