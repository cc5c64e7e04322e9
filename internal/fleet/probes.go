package fleet

import (
	"context"
	"time"
)

const (
	maxProbes     = 256 // in flight, of all hosts
	maxHostProbes = 8   // in flight, of one host
)

// Defaults of a Probe, for those that no API server has defaulted.
const (
	defaultProbeInterval = 10 * time.Second
	defaultProbeTimeout  = 3 * time.Second
)

// probing is one probe of a link, and how it stands.
type probing struct {
	state     ProbeState
	failures  int // in a row
	successes int // in a row
	next      time.Time
	flying    bool
}

// collectProbes follows a change of the users' probes.
func (l *link) collectProbes() {
	wanted := map[Probe]bool{}
	for _, u := range l.users {
		for _, probe := range u.watch.Probes {
			wanted[probe] = true
		}
	}
	for probe := range l.probes {
		if !wanted[probe] {
			delete(l.probes, probe)
		}
	}
	for probe := range wanted {
		if l.probes[probe] == nil {
			l.probes[probe] = &probing{next: l.now()}
		}
	}
}

// mayProbe tells whether probes are asked. They go to the host's network, not
// through the connection, so they go on when that is refused or lost.
func (l *link) mayProbe() bool {
	return l.configured && !l.endpoint.Spec.Suspend && l.status.State != Fenced
}

// nextProbe is when a probe is due next; zero: none is.
func (l *link) nextProbe() time.Time {
	var next time.Time
	flying := 0
	for _, p := range l.probes {
		switch {
		case p.flying:
			flying++
		case next.IsZero() || p.next.Before(next):
			next = p.next
		}
	}
	if !l.mayProbe() || flying >= maxHostProbes {
		return time.Time{}
	}
	return next
}

// beginProbes begins the probes whose time has come. The caller holds mu.
func (l *link) beginProbes(now time.Time) {
	if !l.mayProbe() {
		return
	}
	flying := 0
	for _, p := range l.probes {
		if p.flying {
			flying++
		}
	}
	for probe, p := range l.probes {
		if p.flying || p.next.After(now) || flying >= maxHostProbes {
			continue
		}
		address := probe.Address
		if address == "" {
			address = l.endpoint.Spec.Address
		}
		p.flying = l.fleet.work.begin(func(ctx context.Context) { l.probe(ctx, address, probe, p) })
		flying++
	}
}

// probe asks one question, and takes the answer over.
func (l *link) probe(ctx context.Context, address string, probe Probe, p *probing) {
	err := l.fleet.ask(ctx, address, probe)
	l.logDefect(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	p.flying = false
	p.next = l.now().Add(jitter(orDefault(probe.Interval, defaultProbeInterval)))
	if ctx.Err() == nil && l.probes[probe] == p && l.mayProbe() && p.learn(probe, err, l.describe) {
		for _, u := range l.users {
			for _, watched := range u.watch.Probes {
				u.changed = u.changed || watched == probe
			}
		}
	}
	l.settle()
}

func (f *Fleet) ask(ctx context.Context, address string, probe Probe) error {
	select {
	case f.probing <- struct{}{}:
		defer func() { <-f.probing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := bounded(ctx, orDefault(probe.Timeout, defaultProbeTimeout), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f.options.Probe(ctx, address, probe)
	}, nil)
	return err
}

// learn counts an answer, and tells whether it crossed a threshold.
func (p *probing) learn(probe Probe, err error, describe func(error) string) bool {
	if err == nil {
		p.failures, p.successes = 0, p.successes+1
		if p.successes < max(probe.Successes, 1) || p.state.Known && p.state.Healthy {
			return false
		}
		p.state = ProbeState{Known: true, Healthy: true}
		return true
	}
	p.failures, p.successes = p.failures+1, 0
	if p.failures < max(probe.Failures, 1) || p.state.Known && !p.state.Healthy {
		return false
	}
	p.state = ProbeState{Known: true, Message: describe(err)}
	return true
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return fallback
}
