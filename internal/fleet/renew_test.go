package fleet_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// renew gives the link a new connection, and waits for its first look.
func (h *harness) renew() {
	h.t.Helper()
	e := endpoint("web")
	e.Credentials.Version = "2"
	e.Version = e.Digest()
	h.Configure(hostKey, e)
	h.eventually("a new connection", func() bool { return h.status().Version == e.Version && h.complete(orders)() })
}

// renewed gives the link a new connection while job a-1 is being handed over by the old one.
func renewed(t *testing.T) (h *harness, release func()) {
	t.Helper()
	h = working(t)
	release = h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("the hand-over is under way", func() bool { return h.host.Waiting() == 1 })
	h.renew()
	assert.Equal(t, machine.JobAbsent, h.receipt("a-1"))
	return h, release
}

func TestAJobOfAnEarlierConnectionIsSeenAtOnce(t *testing.T) {
	h, release := renewed(t)
	release()
	h.eventually("seen without a step of the clock", h.handedOver)
	assert.Equal(t, machine.JobSucceeded, h.receipt("a-1"))
}

// A receipt that was looked for before must not pass for what became of the job.
func TestAJobThatIsLostWithAnEarlierConnectionIsLookedFor(t *testing.T) {
	h, release := renewed(t)
	h.host.LoseReply(fleettest.AfterEffect)
	release()
	h.eventually("lost", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
	h.eventually("seen without a step of the clock", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
	assert.True(t, h.state(fleet.Connected)())
}

// TestACancelByAnEarlierConnectionIsSeenAtOnce: a new one has taken over before the host answered.
func TestACancelByAnEarlierConnectionIsSeenAtOnce(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	h := jobRuns(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			return thoughtful{m, asked, answer}, err
		}
	})
	h.Cancel(hostKey, orders, "a-1")
	<-asked
	h.renew()
	answer <- struct{}{}
	h.eventually("seen without a step of the clock", func() bool { return h.receipt("a-1") == machine.JobCancelled })
}

type thoughtful struct {
	machine.Machine
	asked, answer chan struct{}
}

func (m thoughtful) Cancel(ctx context.Context, id string, epoch int64) (machine.JobState, error) {
	m.asked <- struct{}{}
	<-m.answer
	return m.Machine.Cancel(ctx, id, epoch)
}
