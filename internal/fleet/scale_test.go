package fleet_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

var stillPasses atomic.Int64

// still is a machine that costs nothing, so that only the fleet is weighed.
type still struct{}

func (still) Facts(context.Context) (machine.Facts, error) { return machine.Facts{BootID: "1"}, nil }
func (still) Start(context.Context, machine.Job) (machine.JobState, error) {
	return machine.JobState{}, nil
}
func (still) Forget(context.Context, []string) error { return nil }

func (still) Stage(context.Context, machine.Blob) error { return nil }

func (still) Cancel(context.Context, string, int64) (machine.JobState, error) {
	return machine.JobState{Phase: machine.JobAbsent}, nil
}
func (still) Close() error { return nil }
func (still) Observe(_ context.Context, checks []machine.Check) (machine.Observation, error) {
	stillPasses.Add(1)
	answers := make(map[machine.Check]machine.Answer, len(checks))
	for _, check := range checks {
		answers[check] = machine.FileState{Kind: machine.FileAbsent}
	}
	return machine.Observation{BootID: "1", Answers: answers}, nil
}

func TestIdleObjectsAreSmallAndHaveNoGoroutines(t *testing.T) {
	const hosts, objects = 2000, 10000
	h := start(t, func(o *fleet.Options) {
		o.Connect = func(context.Context, fleet.Endpoint) (machine.Machine, error) { return still{}, nil }
	})
	h.settled()
	heap, routines := weigh(), goroutines()
	key := func(i int) fleet.HostKey {
		return fleet.HostKey{Namespace: "shop", Name: fmt.Sprint("host-", i%hosts)}
	}
	for i := range objects {
		name := fmt.Sprint("service-", i)
		checks := []machine.Check{
			machine.Unit{Name: name + ".service"}, machine.File{Path: "/etc/systemd/system/" + name},
			machine.File{Path: "/etc/" + name}, machine.Mark{Subject: machine.Subject("systemd/" + name)}, machine.JobReceipt{ID: name},
		}
		h.Watch(key(i), object(name), fleet.Watch{Checks: checks})
	}
	for i := range hosts {
		h.Configure(key(i), endpoint("web"))
	}
	h.eventually("all are answered", func() bool {
		for i := range objects {
			if !h.View(key(i), object(fmt.Sprint("service-", i))).Complete {
				return false
			}
		}
		return true
	})
	h.settled()
	h.eventually("no goroutine for an idle link", func() bool { return goroutines() <= routines+2 })
	each := (weigh() - heap) / objects
	t.Logf("%d bytes for each of %d watched objects on %d hosts; %d goroutines in all", each, objects, hosts, goroutines())
	assert.Less(t, each, int64(15<<10))

	const minutes = 3
	passes, used := stillPasses.Load(), cpu(t)
	for range minutes * 60 {
		h.clock.Step(time.Second)
		h.eventually("what is due is begun", h.clock.HasWaiters)
	}
	h.eventually("the passes are through", func() bool { return stillPasses.Load()-passes >= hosts*(minutes-1) })
	h.settled()
	share := float64(cpu(t)-used) / float64(minutes*time.Minute)
	t.Logf("%d passes in %d minutes of the fake clock; %.2f %% of a core", stillPasses.Load()-passes, minutes, 100*share)
	assert.Less(t, share, 0.05)
}

// cpu time that this process has used: what others do on the machine does not count.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func weigh() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
