package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// evil is a machine that answers with as much as it can, and differently each
// time. Its texts are pieces of one, so that they cost the test nothing.
type evil struct {
	noise  string
	passes *atomic.Int64
}

// text is large, and huge now and then.
func (e evil) text() string {
	turn := int(e.passes.Load())
	size := 5 << 10
	if turn%200 == 0 {
		size = 1 << 20
	}
	return e.noise[turn : turn+size]
}

type disguised struct{ machine.FileState }

func (e evil) Peer() fleet.Peer {
	return fleet.Peer{Address: e.text(), HostKey: e.text(), Fingerprint: e.text()}
}

func (e evil) Facts(context.Context) (machine.Facts, error) {
	t := e.text()
	return machine.Facts{Hostname: t, OSName: t, OSVersion: t, Kernel: t, Architecture: t, InitSystem: t, BootID: t, CPUs: -1, MemoryBytes: -1}, nil
}

func (e evil) Observe(_ context.Context, checks []machine.Check) (machine.Observation, error) {
	turn := e.passes.Add(1)
	t := e.text()
	if turn%50 == 0 {
		return machine.Observation{}, &transport.LostError{Doing: t, Err: errors.New(t)}
	}
	answers := map[machine.Check]machine.Answer{}
	for i, check := range checks {
		answers[check] = e.answer(t, int(turn)+i)
	}
	for i := range 16 {
		answers[machine.File{Path: fmt.Sprint("/unasked/", turn, i)}] = machine.FileState{Kind: machine.FileKind(t)}
	}
	return machine.Observation{BootID: t, Answers: answers}, nil
}

func (evil) answer(t string, kind int) machine.Answer {
	switch kind % 9 {
	case 0:
		return machine.Problem{Reason: t, Message: t}
	case 1:
		return machine.FileState{Kind: machine.FileKind(t), SHA256: t, Owner: t, Group: t}
	case 2:
		return machine.UnitState{Load: t, Active: t, Sub: t, Enabled: t, Result: t, Fragment: t, Instance: t, Since: t}
	case 3:
		return machine.WindowsServiceState{State: t, StartMode: t, DisplayName: t, Description: t, BinaryPath: t, Account: t, Instance: t, Since: t}
	case 4:
		return machine.MarkState{Owner: machine.Owner{Cluster: t, UID: t, Object: t}, Started: t, Instance: t, Pending: t, Before: t}
	case 5:
		return machine.JobState{Phase: machine.JobPhase(t), BootID: t, Started: t, Finished: t, Message: t}
	case 6:
		return machine.ScriptState{Output: t}
	case 7:
		return disguised{}
	}
	return nil
}

func (e evil) Start(context.Context, machine.Job) (machine.JobState, error) {
	return machine.JobState{}, &machine.RefusedError{JobID: "x", Reason: e.text()}
}

func (e evil) Stage(context.Context, machine.Blob) error { return errors.New(e.text()) }

func (e evil) Cancel(context.Context, string, int64) (machine.JobState, error) {
	return machine.JobState{Phase: machine.JobPhase(e.text()), Message: e.text()}, nil
}

func (evil) Forget(context.Context, []string) error { return nil }
func (evil) Close() error                           { return nil }

// TestAnEvilHostCannotGrowTheOperator in 10,000 passes, whatever it answers.
func TestAnEvilHostCannotGrowTheOperator(t *testing.T) {
	const passes = 10_000
	host := evil{noise: strings.Repeat("0123456789abcdef\x00\xff<&\n", 60_000), passes: &atomic.Int64{}}
	h := start(t, func(o *fleet.Options) {
		o.Connect = func(context.Context, fleet.Endpoint) (machine.Machine, error) { return host, nil }
	})
	var checks []machine.Check
	for i := range 9 {
		checks = append(checks, machine.File{Path: fmt.Sprint("/etc/", i)})
	}
	h.Watch(hostKey, orders, fleet.Watch{Checks: checks})
	e := endpoint("web")
	e.Credentials = credential.Credentials{Username: "ann", Password: "canary-4711", Version: "1"}
	h.Configure(hostKey, e)
	until := func(wanted int64) {
		t.Helper()
		for deadline := time.Now().Add(4 * time.Minute); host.passes.Load() < wanted; {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d passes", host.passes.Load(), wanted)
			}
			turn := host.passes.Load()
			if h.status().State != fleet.Connected {
				h.clock.Step(10 * time.Minute)
			}
			h.Observe(hostKey, orders)
			if turn%10 == 0 {
				h.Submit(hostKey, orders, restart(fmt.Sprint("a-", turn)))
				h.Cancel(hostKey, orders, fmt.Sprint("c-", turn))
			}
			for wait := time.Now().Add(5 * time.Millisecond); host.passes.Load() == turn && time.Now().Before(wait); {
				time.Sleep(20 * time.Microsecond)
			}
		}
	}
	until(500)
	h.settled()
	before := weigh()
	until(passes)
	h.settled()
	// A pass on its way holds its answers, which a busy machine takes a while over.
	var grown int64
	h.eventually("what the host said is let go of", func() bool {
		grown = weigh() - before
		return grown < 2<<20
	})
	view := h.View(hostKey, orders)
	t.Logf("%d KiB more after %d passes; %d answers", grown>>10, passes-500, len(view.Answers))
	assert.LessOrEqual(t, len(view.Answers), 9+64)
	assert.LessOrEqual(t, len(view.JobErrors), 64)
	assert.Less(t, len(fmt.Sprintf("%+v", view)), 2<<20)
	assert.Less(t, len(fmt.Sprintf("%+v", *view.Host.Facts)), 2<<10)
}
