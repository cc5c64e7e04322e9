package fleet_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// jobRuns returns a host on which job a-1 runs.
func jobRuns(t *testing.T, change ...func(*fleet.Options)) *harness {
	h := working(t, change...)
	h.host.HoldJobs()
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("running", func() bool { return h.handedOver() && h.receipt("a-1") == machine.JobRunning })
	return h
}

func TestCancelHandsBackAJobThatWaits(t *testing.T) {
	h := working(t)
	release := h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("the hand-over is under way", func() bool { return h.host.Waiting() == 1 })
	h.Cancel(hostKey, orders, "a-2")
	assert.Equal(t, "cancelled before it was begun; nothing was done", h.View(hostKey, orders).JobErrors["a-2"])
	release()
	h.eventually("the other is done", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
	assert.Equal(t, []string{"a-1"}, h.host.Jobs())
}

// TestCancelDoesNotWaitBehindTheLane: the lane may be taken by a job that the cancelled one holds up.
func TestCancelDoesNotWaitBehindTheLane(t *testing.T) {
	h := jobRuns(t)
	release := h.host.BlockStart()
	defer release()
	h.Submit(hostKey, object("other"), restart("a-2"))
	h.eventually("the lane is taken", func() bool { return h.host.Waiting() == 1 })
	told := h.told(orders)
	h.Cancel(hostKey, orders, "a-1")
	h.Cancel(hostKey, orders, "a-1")
	h.eventually("cancelled", func() bool { return h.receipt("a-1") == machine.JobCancelled })
	h.eventually("told", func() bool { return h.told(orders) > told })
	assert.Equal(t, []string{"cancel a-1"}, h.host.Journal())
	assert.Equal(t, 1, h.host.Waiting(), "the other job is still being handed over")
	assert.Empty(t, h.View(hostKey, orders).JobErrors)
}

func TestCancelDuringTheHandOverComesAfterIt(t *testing.T) {
	h := working(t)
	h.host.HoldJobs()
	release := h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("the hand-over is under way", func() bool { return h.host.Waiting() == 1 })
	h.Cancel(hostKey, orders, "a-1")
	passes := h.host.Observations()
	h.stepping(time.Second, "two more passes", func() bool { return h.host.Observations() > passes+1 })
	assert.Empty(t, h.host.Journal(), "a cancellation that overtakes its job would find nothing, and the job would run")
	release()
	h.eventually("cancelled", func() bool { return h.receipt("a-1") == machine.JobCancelled })
}

// TestCancelIsKeptWhileTheHostIsAway, also over a new endpoint, maintenance and suspension.
func TestCancelIsKeptWhileTheHostIsAway(t *testing.T) {
	h := jobRuns(t)
	h.host.Stop()
	h.Observe(hostKey, orders)
	h.eventually("unreachable", h.state(fleet.Unreachable))
	h.Cancel(hostKey, orders, "a-1")
	e := endpoint("web")
	e.Credentials.Version, e.Spec.Maintenance.Enabled = "2", true
	e.Version = e.Digest()
	h.Configure(hostKey, e)
	h.host.Resume()
	h.eventually("back", h.state(fleet.Connected))
	h.settled()
	assert.Empty(t, h.host.Journal(), "a host in maintenance is not changed")
	e.Spec.Maintenance.Enabled = false
	h.Configure(hostKey, e)
	h.eventually("cancelled", func() bool { return h.receipt("a-1") == machine.JobCancelled })
	assert.Equal(t, []string{"cancel a-1"}, h.host.Journal())
}

func TestCancelIsDroppedWithItsObject(t *testing.T) {
	h := jobRuns(t)
	h.host.Stop()
	h.Observe(hostKey, orders)
	h.eventually("unreachable", h.state(fleet.Unreachable))
	h.Cancel(hostKey, orders, "a-1")
	h.Unwatch(orders)
	h.host.Resume()
	h.stepping(time.Second, "back", h.state(fleet.Connected))
	h.settled()
	assert.Empty(t, h.host.Journal())
}

// TestANewOperatorCancelsAJobOfTheOneBefore, which it was never given.
func TestANewOperatorCancelsAJobOfTheOneBefore(t *testing.T) {
	h := jobRuns(t)
	h.stop()
	next := start(t, func(o *fleet.Options) {
		o.Connect = h.network.Connect
		o.Epoch = func(context.Context) (int64, error) { return 8, nil }
	})
	next.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{machine.JobReceipt{ID: "a-1"}}})
	next.Cancel(hostKey, orders, "a-1")
	next.connected()
	next.eventually("cancelled", func() bool { return next.receipt("a-1") == machine.JobCancelled })

	h.host.SetEpoch(9)
	next.Cancel(hostKey, orders, "b-1")
	next.eventually("a leader that was replaced cancels nothing", next.state(fleet.Fenced))
}

func TestCancelOfAJobThatHasEndedChangesNothing(t *testing.T) {
	h := working(t)
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("done", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
	h.Cancel(hostKey, orders, "a-1")
	h.Cancel(hostKey, orders, "unknown")
	h.settled()
	assert.Equal(t, machine.JobSucceeded, h.receipt("a-1"))
	assert.True(t, h.state(fleet.Connected)())
}

// TestALostCancelIsRepeated, and one that always costs the connection is given up.
func TestALostCancelIsRepeated(t *testing.T) {
	var attempts, failures atomic.Int32
	failures.Store(2)
	h := jobRuns(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			return deaf{m, &attempts, &failures}, err
		}
	})
	h.Cancel(hostKey, orders, "a-1")
	h.stepping(time.Second, "cancelled", func() bool { return h.receipt("a-1") == machine.JobCancelled })
	assert.Equal(t, int32(3), attempts.Load())

	attempts.Store(0)
	failures.Store(1000)
	h.Cancel(hostKey, orders, "b-1")
	h.stepping(time.Second, "tried", func() bool { return attempts.Load() == 5 })
	h.stepping(time.Second, "back", h.state(fleet.Connected))
	passes := h.host.Observations()
	h.stepping(10*time.Second, "more passes", func() bool { return h.host.Observations() > passes+5 })
	assert.Equal(t, int32(5), attempts.Load(), "a request that ends the connection each time is given up")
}

type deaf struct {
	machine.Machine
	attempts, failures *atomic.Int32
}

func (d deaf) Cancel(ctx context.Context, id string, epoch int64) (machine.JobState, error) {
	d.attempts.Add(1)
	if d.failures.Add(-1) >= 0 {
		return machine.JobState{}, &transport.LostError{Doing: "cancel job " + id, Err: errors.New("connection reset by peer")}
	}
	return d.Machine.Cancel(ctx, id, epoch)
}
