package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/isthmus-dev/isthmus/test/bench/operator"
	"github.com/isthmus-dev/isthmus/test/bench/peer"
	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// The passes that are compared. A peer has only the first two.
const (
	firstPass  = "first"
	samePass   = "unchanged"
	fleetPass  = "unchanged-fleet"
	ownPass    = "unchanged-interval"
	ownSeconds = 5 // interval at which the operator looks on its own
)

// passes measures first and unchanged passes of all sides, side by side.
func (b *bench) passes(ctx context.Context) error {
	if err := b.buildOperator(ctx); err != nil {
		return err
	}
	for i, hosts := range b.hosts {
		if err := b.passesOver(ctx, hosts, b.runsOf(i)); err != nil {
			return fmt.Errorf("%d hosts: %w", hosts, err)
		}
	}
	return nil
}

func (b *bench) buildOperator(ctx context.Context) error {
	if b.program != "" || !slices.Contains(b.sides, "isthmus") {
		return nil
	}
	b.say("building the operator")
	program := filepath.Join(b.dir, "isthmus")
	if err := operator.Build(ctx, program); err != nil {
		return err
	}
	b.program = program
	return nil
}

// rig is hosts, sides, and what was measured of them.
type rig struct {
	*bench
	bed      *target.Bed
	cluster  *operator.Cluster
	operator *operator.Operator
	peers    []peer.Peer
	measured map[string]*series // by pass and side
}

func (r *rig) series(pass, side string) *series {
	key := pass + "." + side
	if r.measured[key] == nil {
		r.measured[key] = &series{}
	}
	return r.measured[key]
}

func (b *bench) passesOver(ctx context.Context, hosts, runs int) (err error) {
	r, stop, err := b.rig(ctx, hosts)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	for _, p := range b.peersOf() {
		if err := p.Prepare(ctx, r.bed); err != nil {
			return fmt.Errorf("prepare %s: %w", p.Name(), err)
		}
		r.peers = append(r.peers, p)
	}
	for run := range runs {
		if err := r.round(ctx, run+1, runs); err != nil {
			return err
		}
	}
	r.report()
	return nil
}

// rig starts hosts, a control plane and the operator; stop ends them, also after an error.
func (b *bench) rig(ctx context.Context, hosts int) (r *rig, stop func() error, err error) {
	r = &rig{bench: b, measured: map[string]*series{}}
	stop = func() error { return r.stop(context.WithoutCancel(ctx)) }
	dir, err := b.part("hosts")
	if err != nil {
		return r, stop, err
	}
	b.say("starting %d hosts", hosts)
	if r.bed, err = target.Start(ctx, b.janitor, dir, hosts); err != nil {
		return r, stop, err
	}
	if !slices.Contains(b.sides, "isthmus") {
		return r, stop, nil
	}
	b.say("starting the control plane and the operator")
	if r.cluster, err = operator.StartCluster(ctx, b.janitor, filepath.Join(dir, "controlplane"), b); err != nil {
		return r, stop, err
	}
	if err := r.cluster.Credentials(ctx, r.bed); err != nil {
		return r, stop, err
	}
	if r.operator, err = r.cluster.StartOperator(ctx, b.program); err != nil {
		return r, stop, err
	}
	return r, stop, r.warmUp(ctx)
}

// warmUp has one host managed and let go of: a program that has just been started does not stand for one that runs.
func (r *rig) warmUp(ctx context.Context) error {
	if _, _, err := r.operator.First(ctx, r.bed.Hosts[:1]); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return errors.Join(r.operator.Clear(ctx), r.bed.Wipe())
}

func (r *rig) stop(ctx context.Context) error {
	var errs []error
	if r.operator != nil {
		errs = append(errs, r.operator.Stop(ctx))
	}
	if r.cluster != nil {
		errs = append(errs, r.cluster.Stop(ctx))
	}
	if r.bed != nil {
		errs = append(errs, r.bed.Stop(ctx))
	}
	return errors.Join(errs...)
}

func (b *bench) peersOf() []peer.Peer {
	var peers []peer.Peer
	if slices.Contains(b.sides, "ansible") {
		peers = append(peers, &peer.Ansible{Strategy: b.strategy, Progress: b})
	}
	if slices.Contains(b.sides, "fabric") {
		peers = append(peers, &peer.Fabric{Progress: b})
	}
	return peers
}

// round has each side make one first pass and one unchanged pass over new hosts.
func (r *rig) round(ctx context.Context, run, runs int) error {
	r.say("%d hosts, run %d of %d", len(r.bed.Hosts), run, runs)
	if r.operator != nil {
		if err := r.isthmus(ctx); err != nil {
			return fmt.Errorf("isthmus: %w", err)
		}
	}
	for _, p := range r.peers {
		if err := r.peer(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) peer(ctx context.Context, p peer.Peer) error {
	things := peer.Things * len(r.bed.Hosts)
	if err := r.renew(); err != nil {
		return err
	}
	outcome, err := p.Pass(ctx)
	if err == nil && outcome.Changed != things {
		err = fmt.Errorf("%s has changed %d of %d things", p.Name(), outcome.Changed, things)
	}
	if err != nil {
		return err
	}
	state, err := r.note(firstPass, p.Name(), outcome.Wall, outcome.Usage)
	if err != nil {
		return err
	}
	outcome, err = p.Pass(ctx)
	if err == nil && outcome.Unchanged != things {
		err = fmt.Errorf("%s has found %d of %d things unchanged", p.Name(), outcome.Unchanged, things)
	}
	if err != nil {
		return err
	}
	return errors.Join(r.noteSame(state, samePass, p.Name(), outcome.Wall, outcome.Usage), p.Rest(ctx), r.bed.Wipe())
}

// renew makes the hosts new, and makes sure of it.
func (r *rig) renew() error {
	return errors.Join(r.bed.Wipe(), r.bed.VerifyNew())
}

// note keeps a pass whose end state is right.
func (r *rig) note(pass, side string, wall time.Duration, used usage.Usage) (target.State, error) {
	state, err := r.bed.Verify()
	if err != nil {
		return "", fmt.Errorf("after the %s pass of %s: %w", pass, side, err)
	}
	r.series(pass, side).add(wall, used)
	r.say("  %-18s %-8s %8.2f s wall %8.2f s CPU", pass, side, wall.Seconds(), used.CPU.Seconds())
	return state, nil
}

// noteSame keeps a pass that has left the state as it was: no file written anew, no process restarted.
func (r *rig) noteSame(before target.State, pass, side string, wall time.Duration, used usage.Usage) error {
	after, err := r.note(pass, side, wall, used)
	if err == nil && after != before {
		err = fmt.Errorf("the %s pass of %s has changed something", pass, side)
	}
	return err
}

func (r *rig) isthmus(ctx context.Context) error {
	if err := r.renew(); err != nil {
		return err
	}
	// Garbage of this program's own is not to be collected during a measurement.
	runtime.GC()
	wall, cost, err := r.operator.First(ctx, r.bed.Hosts)
	if err != nil {
		return err
	}
	state, err := r.note(firstPass, "isthmus", wall, cost.Usage)
	if err != nil {
		return err
	}
	r.series(firstPass, "isthmus").controlPlane = append(r.series(firstPass, "isthmus").controlPlane, cost.ControlPlane.Seconds())
	for _, pass := range []func(context.Context, target.State) error{r.requested, r.byInterval, r.fleetOnly} {
		if err := pass(ctx, state); err != nil {
			return err
		}
	}
	return errors.Join(r.operator.Clear(ctx), r.bed.Wipe())
}

func (r *rig) requested(ctx context.Context, state target.State) error {
	wall, cost, err := r.operator.Requested(ctx, r.bed.Hosts)
	if err != nil {
		return err
	}
	s := r.series(samePass, "isthmus")
	s.controlPlane = append(s.controlPlane, cost.ControlPlane.Seconds())
	return r.noteSame(state, samePass, "isthmus", wall, cost.Usage)
}

// byInterval has no wall time of its own: the operator spreads its looks over the interval.
// It is measured in the first run only: its many looks are a sample by themselves.
func (r *rig) byInterval(ctx context.Context, state target.State) error {
	if r.measured[ownPass+".isthmus"] != nil {
		return nil
	}
	const interval, window = ownSeconds * time.Second, 3 * ownSeconds * time.Second
	looks, cost, err := r.operator.ByInterval(ctx, r.bed.Hosts, interval, window)
	if err != nil {
		return err
	}
	if looks < len(r.bed.Hosts) {
		return fmt.Errorf("the operator has looked %d times at %d hosts in %s", looks, len(r.bed.Hosts), window)
	}
	each := float64(len(r.bed.Hosts)) / float64(looks) // of the window's cost for one look at each host
	used := usage.Usage{CPU: time.Duration(float64(cost.CPU) * each), PeakRSS: cost.PeakRSS}
	s := r.series(ownPass, "isthmus")
	s.controlPlane = append(s.controlPlane, cost.ControlPlane.Seconds()*each)
	return r.noteSame(state, ownPass, "isthmus", interval, used)
}

func (r *rig) fleetOnly(ctx context.Context, state target.State) error {
	fleet, err := operator.StartFleet(ctx, r.bed)
	if err != nil {
		return err
	}
	defer fleet.Stop()
	// The second pass is timed: the first one after connecting reads digests that later ones need not.
	if _, _, err := fleet.Pass(ctx); err != nil {
		return err
	}
	wall, used, err := fleet.Pass(ctx)
	if err != nil {
		return err
	}
	return r.noteSame(state, fleetPass, "isthmus", wall, used)
}

// report prints a line for each side and pass, and how they compare.
func (r *rig) report() {
	hosts := field{"hosts", len(r.bed.Hosts)}
	result("bed", hosts, field{"shell", r.bed.Shell}, field{"things", peer.Things * len(r.bed.Hosts)}, field{"cores", runtime.NumCPU()}, field{"strategy", r.strategy})
	for _, p := range r.peers {
		result("version."+p.Name(), field{"package", p.Version()})
	}
	for _, pass := range []string{firstPass, samePass, fleetPass, ownPass} {
		for _, side := range allSides {
			if s := r.measured[pass+"."+side]; s != nil {
				result("pass."+pass+"."+side, append([]field{hosts}, s.fields()...)...)
			}
		}
	}
	for _, p := range r.peers {
		r.compare(firstPass, firstPass, p.Name())
		for _, own := range []string{samePass, fleetPass, ownPass} {
			r.compare(own, samePass, p.Name())
		}
	}
}

// compare prints how many times a peer's pass is that of Isthmus.
func (r *rig) compare(own, pass, name string) {
	mine, theirs := r.measured[own+".isthmus"], r.measured[pass+"."+name]
	if mine == nil || theirs == nil {
		return
	}
	fields := []field{{"hosts", len(r.bed.Hosts)}}
	if own != ownPass {
		fields = append(fields, field{"wall", theirs.wall.Ratio(mine.wall)})
	}
	result("ratio."+own+"."+name+"/isthmus", append(fields, field{"cpu", theirs.cpu.Ratio(mine.cpu)})...)
}
