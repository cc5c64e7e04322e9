package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// working returns a connected host that orders watches.
func working(t *testing.T, change ...func(*fleet.Options)) *harness {
	h := start(t, change...)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd, machine.JobReceipt{ID: "a-1"}}, Interval: time.Minute})
	h.connected()
	h.eventually("answered", h.complete(orders))
	h.settled()
	return h
}

func (h *harness) receipt(id string) machine.JobPhase {
	state, _ := h.View(hostKey, orders).Answers[machine.JobReceipt{ID: id}].(machine.JobState)
	return state.Phase
}

func (h *harness) handedOver() bool { return len(h.View(hostKey, orders).Queued) == 0 }

func TestAJobIsHandedOverOnceAndSeenAtOnce(t *testing.T) {
	h := working(t)
	told := h.told(orders)
	for range 5 {
		h.Submit(hostKey, orders, restart("a-1"))
	}
	h.eventually("handed over, without a step of the clock", h.handedOver)
	assert.Equal(t, machine.JobSucceeded, h.receipt("a-1"), "an id leaves Queued with its receipt")
	h.eventually("told", func() bool { return h.told(orders) > told })
	job, _ := h.host.Job("a-1")
	assert.Equal(t, int64(7), job.Epoch)
	assert.Equal(t, []string{"put /tmp/a-1"}, h.host.Journal())
}

func TestAReceiptIsFollowedThoughNobodyWatchesIt(t *testing.T) {
	h := working(t)
	h.host.HoldJobs()
	h.Submit(hostKey, orders, restart("b-1"))
	h.eventually("running", func() bool { return h.receipt("b-1") == machine.JobRunning })
	h.host.FinishJobs()
	began := h.clock.Now()
	h.stepping(250*time.Millisecond, "finished", func() bool { return h.receipt("b-1") == machine.JobSucceeded })
	assert.Less(t, h.clock.Since(began), 10*time.Second, "a running job is looked at more often than each minute")
	h.Forget(hostKey, []string{"b-1"})
	h.stepping(250*time.Millisecond, "forgotten", func() bool { return len(h.host.Jobs()) == 0 })
	assert.NotContains(t, h.View(hostKey, orders).Answers, machine.Check(machine.JobReceipt{ID: "b-1"}))
}

// A job costs one look at the host, after it was handed over, and two jobs that
// wait for each other cost one together.
func TestJobsOnTheirWayCostNoLookOfTheirOwn(t *testing.T) {
	h := working(t)
	other := object("other")
	h.Watch(hostKey, other, fleet.Watch{Checks: []machine.Check{motd}})
	h.stepping(5*time.Millisecond, "complete", h.complete(other))
	passes := h.host.Observations()
	for object, id := range map[fleet.Object]string{orders: "c-1", other: "c-2"} {
		h.Submit(hostKey, object, restart(id))
		h.Watch(hostKey, object, fleet.Watch{Checks: []machine.Check{motd, machine.JobReceipt{ID: id}}})
	}
	h.eventually("handed over, without a step of the clock", h.handedOver)
	h.eventually("the other as well", func() bool { return len(h.View(hostKey, other).Queued) == 0 })
	assert.Equal(t, machine.JobSucceeded, h.receipt("c-1"))
	assert.LessOrEqual(t, h.host.Observations(), passes+2)
	h.Forget(hostKey, []string{"c-1"})
	h.Forget(hostKey, []string{"c-2"})
	h.stepping(250*time.Millisecond, "forgotten", func() bool { return len(h.host.Jobs()) == 0 })
}

func TestAnOlderPassDoesNotVouchForAJob(t *testing.T) {
	h, gate := gatedHost(t)
	gate.closed.Store(true)
	h.Observe(hostKey, orders)
	<-gate.asked // and what it will answer is fixed before the job
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("done on the host", func() bool { return len(h.host.Jobs()) == 1 })
	gate.answer <- struct{}{}
	<-gate.asked // The next pass has begun, so the older one is taken over.
	assert.Equal(t, machine.JobAbsent, h.receipt("a-1"))
	assert.Equal(t, []string{"a-1"}, h.View(hostKey, orders).Queued)
	gate.closed.Store(false)
	gate.answer <- struct{}{}
	h.eventually("seen", h.handedOver)
	assert.Equal(t, machine.JobSucceeded, h.receipt("a-1"))
}

// gatedHost is a host whose answers are held back while the gate is closed.
func gatedHost(t *testing.T) (*harness, *gate) {
	t.Helper()
	gate := newGate()
	return working(t, gate.install), gate
}

// gate holds answers to observations back while it is closed.
type gate struct {
	closed        atomic.Bool
	asked, answer chan struct{}
}

func newGate() *gate { return &gate{asked: make(chan struct{}), answer: make(chan struct{})} }

func (g *gate) install(o *fleet.Options) {
	connect := o.Connect
	o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
		m, err := connect(ctx, e)
		return gated{m, g}, err
	}
}

type gated struct {
	machine.Machine
	*gate
}

func (g gated) Observe(ctx context.Context, checks []machine.Check) (machine.Observation, error) {
	closed := g.closed.Load()
	observed, err := g.Machine.Observe(ctx, checks)
	if closed {
		g.asked <- struct{}{}
		<-g.answer
	}
	return observed, err
}

// A job that is handed over during a pass is looked at after it, though the next in
// the queue is taken back and nothing else asks for a look.
func TestALookAfterAJobIsNotForgottenDuringAPass(t *testing.T) {
	h, gate := gatedHost(t)
	gate.closed.Store(true)
	h.Observe(hostKey, orders)
	<-gate.asked
	release := h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	waits := restart("a-2")
	waits.Blobs = []machine.Blob{{SHA256: "never", Open: func(ctx context.Context) (io.ReadCloser, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}}
	other := object("other")
	h.Submit(hostKey, other, waits)
	release()
	h.eventually("done on the host", func() bool { return len(h.host.Jobs()) == 1 })
	h.Cancel(hostKey, other, "a-2")
	gate.closed.Store(false)
	gate.answer <- struct{}{}
	h.eventually("seen without a step of the clock", h.handedOver)
	assert.Equal(t, machine.JobSucceeded, h.receipt("a-1"))
}

func TestJobsOfAHostGoOneByOneAndObservationBesideThem(t *testing.T) {
	h := working(t)
	release := h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	h.Submit(hostKey, object("other"), restart("a-2"))
	h.Submit(hostKey, orders, restart("a-3"))
	passes := h.host.Observations()
	h.stepping(time.Second, "observed while a job is handed over", func() bool { return h.host.Observations() >= passes+2 })
	assert.Empty(t, h.host.Jobs())
	assert.Equal(t, []string{"a-1", "a-3"}, h.View(hostKey, orders).Queued)
	release()
	h.eventually("all done", func() bool { return len(h.host.Jobs()) == 3 })
	assert.Equal(t, []string{"put /tmp/a-1", "put /tmp/a-2", "put /tmp/a-3"}, h.host.Journal())
}

func TestALostReplyIsNeverASecondEffect(t *testing.T) {
	for _, loss := range []fleettest.Loss{fleettest.BeforeEffect, fleettest.AfterEffect, fleettest.DuringEffect} {
		t.Run(string(loss), func(t *testing.T) {
			h := working(t)
			h.host.LoseReply(loss)
			h.Submit(hostKey, orders, restart("a-1"))
			h.eventually("lost", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
			assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], "will be seen when it answers again")
			h.stepping(time.Second, "connected again", h.state(fleet.Connected))
			want := map[fleettest.Loss]machine.JobPhase{
				fleettest.BeforeEffect: machine.JobAbsent, fleettest.AfterEffect: machine.JobSucceeded, fleettest.DuringEffect: machine.JobRunning,
			}
			assert.Equal(t, want[loss], h.receipt("a-1"), "the receipt tells")
			h.host.FinishJobs()
			h.Submit(hostKey, orders, restart("a-1"))
			h.eventually("handed over", h.handedOver)
			assert.Empty(t, h.View(hostKey, orders).JobErrors)
			assert.Equal(t, []string{"put /tmp/a-1"}, h.host.Journal())
		})
	}
}

// TestALoginThatIsRefusedInTheMiddleOfAJob: a job may change the very account or certificate by which it is carried out.
func TestALoginThatIsRefusedInTheMiddleOfAJob(t *testing.T) {
	for _, err := range []error{
		&transport.CredentialsError{Method: "NTLM", User: "ann"},
		&transport.TrustError{Reason: transport.TrustMismatch, Fingerprint: "SHA256:new"},
	} {
		h := working(t, func(o *fleet.Options) {
			connect := o.Connect
			o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
				m, failed := connect(ctx, e)
				return turncoat{m, err}, failed
			}
		})
		h.Submit(hostKey, orders, restart("a-1"))
		h.eventually("handed back", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
		assert.Equal(t, []string{"put /tmp/a-1"}, h.host.Journal())
		assert.NotContains(t, h.View(hostKey, orders).JobErrors["a-1"], "nothing was done")
	}
}

// turncoat does not know us any longer when a job is done.
type turncoat struct {
	machine.Machine
	err error
}

func (m turncoat) Start(ctx context.Context, job machine.Job) (machine.JobState, error) {
	_, _ = m.Machine.Start(ctx, job)
	return machine.JobState{}, m.err
}

func TestARebootInTheMiddleIsALostJob(t *testing.T) {
	h := working(t)
	h.host.RebootDuringNextJob(1)
	job := restart("a-1")
	job.Steps = append(job.Steps, machine.ReloadUnits{})
	h.Submit(hostKey, orders, job)
	h.eventually("unreachable", h.state(fleet.Unreachable))
	h.host.Resume()
	h.stepping(time.Second, "back", h.state(fleet.Connected))
	assert.Equal(t, machine.JobLost, h.receipt("a-1"))
	assert.Equal(t, []string{"put /tmp/a-1"}, h.host.Journal())
}

// A look that was asked for and is dropped, because nothing more is tried, does not
// leave the request without an answer.
func TestARequestIsAnsweredWhereNothingMoreIsTried(t *testing.T) {
	h, gate := gatedHost(t)
	gate.closed.Store(true)
	e := endpoint("web")
	e.RequestedAt = "one"
	h.Configure(hostKey, e)
	<-gate.asked
	h.host.SetEpoch(8)
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("fenced", h.state(fleet.Fenced))
	gate.answer <- struct{}{}
	h.eventually("answered", func() bool { return h.status().Answered == "one" })
}

func TestAStaleLeaderDoesNothingMore(t *testing.T) {
	h := working(t)
	h.host.SetEpoch(8)
	h.Submit(hostKey, orders, restart("a-1"))
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("fenced", h.state(fleet.Fenced))
	errs := h.View(hostKey, orders).JobErrors
	assert.Contains(t, errs["a-1"], "newer leader")
	assert.Contains(t, errs["a-2"], "newer leader")
	h.Submit(hostKey, orders, restart("a-3"))
	passes := h.host.Observations()
	for range 10 {
		h.clock.Step(time.Hour)
		h.Observe(hostKey, orders)
	}
	h.settled()
	assert.Equal(t, passes, h.host.Observations())
	assert.Empty(t, h.host.Journal())
}

// TestAHostThatRefusesAJobIsStillThere: its state directory cannot be written, say.
func TestAHostThatRefusesAJobIsStillThere(t *testing.T) {
	h := working(t)
	h.host.RefuseJobs("mkdir: cannot create directory '/var/lib/isthmus': Permission denied")
	h.Submit(hostKey, orders, restart("a-1"))
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("refused", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
	h.eventually("the next job is begun", func() bool { return h.receipt("a-2") == machine.JobSucceeded })
	assert.Equal(t, "start job a-1: mkdir: cannot create directory '/var/lib/isthmus': Permission denied; nothing was done",
		h.View(hostKey, orders).JobErrors["a-1"])
	assert.True(t, h.state(fleet.Connected)())
	assert.Equal(t, 1, h.host.Sessions())
	assert.Equal(t, []string{"put /tmp/a-2"}, h.host.Journal())
}

func TestJobsDecidedBeforeContactWasLostAreHandedBack(t *testing.T) {
	h := working(t)
	release := h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("the hand-over is under way", func() bool { return h.host.Waiting() == 1 })
	h.host.Stop()
	release()
	h.eventually("handed back", func() bool { return h.View(hostKey, orders).JobErrors["a-2"] != "" })
	h.settled()
	told := h.told(orders)
	for range 10 {
		h.Submit(hostKey, orders, restart("a-2"))
	}
	h.settled()
	assert.Equal(t, told, h.told(orders), "submitting again to a host that is known to be away tells nothing new")
	h.host.Resume()
	h.stepping(time.Second, "back", h.state(fleet.Connected))
	h.settled()
	assert.NotContains(t, h.host.Journal(), "put /tmp/a-2")
}

func TestANewEndpointHandsWaitingJobsBack(t *testing.T) {
	h := working(t)
	release := h.host.BlockStart()
	h.Submit(hostKey, orders, restart("a-1"))
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("the hand-over is under way", func() bool { return h.host.Waiting() == 1 })
	other := fleettest.NewLinux()
	h.network.Attach("other", other)
	h.Configure(hostKey, endpoint("other"))
	h.eventually("handed back", func() bool { return h.View(hostKey, orders).JobErrors["a-2"] != "" })
	release()
	h.eventually("the other host answers", func() bool { return other.Observations() > 0 && h.complete(orders)() })
	h.settled()
	assert.Empty(t, other.Jobs(), "a job is not carried out on a host that it was not meant for")
	assert.Equal(t, []string{"a-1"}, h.host.Jobs(), "a hand-over under way is not cut off")
	h.eventually("closed", func() bool { return h.host.Sessions() == 0 })
}

func TestJobsWaitForTheEpoch(t *testing.T) {
	var failures atomic.Int32
	failures.Store(3)
	h := working(t, func(o *fleet.Options) {
		o.Epoch = func(context.Context) (int64, error) {
			if failures.Add(-1) >= 0 {
				return 0, errors.New("the server is away")
			}
			return 9, nil
		}
	})
	h.Submit(hostKey, orders, restart("a-1"))
	h.stepping(time.Second, "handed over", func() bool { return len(h.host.Jobs()) == 1 })
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("handed over", func() bool { return len(h.host.Jobs()) == 2 })
	job, _ := h.host.Job("a-2")
	assert.Equal(t, int64(9), job.Epoch)
	assert.Equal(t, int32(-1), failures.Load(), "it is asked once")
}

func TestOneDeadHostDoesNotDelayTheOthers(t *testing.T) {
	h := start(t, func(o *fleet.Options) { o.Dials = 4 })
	const hosts, dead = 100, 10
	for i := range hosts {
		host := fleettest.NewLinux()
		if i < dead {
			host.Silence()
		}
		h.network.Attach(fmt.Sprint("host-", i), host)
	}
	began := time.Now()
	keys := make([]fleet.HostKey, hosts)
	for i := range hosts {
		keys[i] = fleet.HostKey{Namespace: "shop", Name: fmt.Sprint("host-", i)}
		h.Watch(keys[i], object(fmt.Sprint("service-", i)), fleet.Watch{Checks: []machine.Check{motd}})
		h.Configure(keys[i], endpoint(fmt.Sprint("host-", i)))
	}
	h.eventually("the living are connected", func() bool {
		for _, key := range keys[dead:] {
			if status, _ := h.Host(key); status.State != fleet.Connected {
				return false
			}
		}
		return true
	})
	// Ten silent hosts and four places: one after the other they would take 5 s each, over 10 s in all.
	assert.Less(t, time.Since(began), 4500*time.Millisecond)
}

func TestAThousandFaultsLeaveNothingBehind(t *testing.T) {
	before := goroutines()
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		var turn atomic.Int64
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			if err != nil {
				return m, err
			}
			return &faulty{Machine: m, turn: &turn}, nil
		}
	})
	e := endpoint("web")
	e.Spec.Probe.Timeout.Duration = 5 * time.Millisecond
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: time.Second, Probes: []fleet.Probe{{Scheme: "tcp", Port: 9, Interval: time.Second, Timeout: time.Millisecond}}})
	h.Configure(hostKey, e)
	faults := 0
	h.stepping(30*time.Second, "a thousand faults", func() bool {
		faults++
		e.RequestedAt = fmt.Sprint(faults)
		h.Configure(hostKey, e)
		h.Submit(hostKey, orders, restart(fmt.Sprint("a-", faults)))
		return faultCount.Load() >= 1000
	})
	h.stop()
	h.eventually("no session is left", func() bool { return h.host.Sessions() == 0 })
	// Not by Eventually, which has goroutines of its own.
	for deadline := time.Now().Add(5 * time.Second); goroutines() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			t.Fatalf("%d goroutines before, %d after", before, goroutines())
		}
	}
}

var faultCount atomic.Int64

// faulty is a machine that fails in one of several ways, each in its turn.
type faulty struct {
	machine.Machine
	turn *atomic.Int64
}

func (f *faulty) Observe(ctx context.Context, checks []machine.Check) (machine.Observation, error) {
	turn := f.turn.Add(1)
	if turn%8 != 0 {
		faultCount.Add(1)
	}
	switch turn % 8 {
	case 1:
		return machine.Observation{}, &transport.LostError{Doing: "observe", Err: errors.New("reset")}
	case 2:
		panic("odd answer")
	case 3:
		<-ctx.Done()
		return machine.Observation{}, ctx.Err()
	case 4:
		return machine.Observation{}, &transport.CredentialsError{}
	case 5:
		return machine.Observation{}, &transport.TrustError{Reason: transport.TrustMismatch}
	case 6:
		return machine.Observation{}, errors.New("something else")
	case 7:
		_ = f.Close()
	}
	return f.Machine.Observe(ctx, checks)
}

func (f *faulty) Start(ctx context.Context, job machine.Job) (machine.JobState, error) {
	if faultCount.Add(1)%3 == 0 {
		panic("odd job")
	}
	if faultCount.Load()%3 == 1 {
		return machine.JobState{}, &transport.LostError{Doing: "start", Err: errors.New("reset")}
	}
	return f.Machine.Start(ctx, job)
}
