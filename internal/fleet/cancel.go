package fleet

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// maxCancelAttempts is how often a host that is there is asked to cancel one job.
const maxCancelAttempts = 5

// cancellation is a job that is to be ended on the host.
type cancellation struct {
	object   Object
	id       string
	attempts int
}

// cancel hands a job back that waits, and has one ended that may run.
func (l *link) cancel(object Object, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.settle()
	u := l.users[object]
	if u == nil {
		return
	}
	waiting := slices.IndexFunc(l.queue, func(q *queued) bool { return q.object == object && q.job.ID == id })
	if waiting >= 0 {
		l.queue = slices.Delete(l.queue, waiting, waiting+1)
		l.refuseJob(u, id, "cancelled before it was begun; nothing was done")
		countCancel("withdrawn")
		return
	}
	known := slices.ContainsFunc(l.cancels, func(c *cancellation) bool { return c.object == object && c.id == id })
	if known || l.status.State == Fenced || len(l.cancels) >= maxQueue || l.ended(id) {
		return
	}
	l.cancels = append(l.cancels, &cancellation{object: object, id: id})
}

// ended tells whether the latest receipt of a job says that there is nothing to cancel.
func (l *link) ended(id string) bool {
	state, _ := l.answers[machine.JobReceipt{ID: id}].(machine.JobState)
	switch state.Phase {
	case machine.JobSucceeded, machine.JobFailed, machine.JobCancelled, machine.JobLost:
		return true
	}
	return false
}

// forgetCancels drops requests that nobody waits for any longer.
func (l *link) forgetCancels(drop func(*cancellation) bool) {
	l.cancels = slices.DeleteFunc(l.cancels, drop)
}

// nextCancel is the first request that can be carried out: a job that is just
// being handed over is cancelled when the host has it.
func (l *link) nextCancel() *cancellation {
	if l.cancelling || l.conn == nil || l.status.State != Connected || l.endpoint.Spec.Maintenance.Enabled {
		return nil
	}
	for _, c := range l.cancels {
		if l.handing == nil || l.handing.job == nil || l.handing.job.object != c.object || l.handing.job.job.ID != c.id {
			return c
		}
	}
	return nil
}

// beginCancel begins a cancellation beside the lane of mutations: jobs run on
// the host by themselves, so the lane says nothing about them, and what waits in
// it may wait for the very job that is to be cancelled. The caller holds mu.
func (l *link) beginCancel(now time.Time) {
	next := l.nextCancel()
	if next == nil || l.cancelNext.After(now) {
		return
	}
	conn := l.conn.hold()
	l.cancelling = l.fleet.work.begin(func(ctx context.Context) { l.carryCancel(ctx, conn, next) })
	if !l.cancelling {
		conn.release()
	}
}

func (l *link) carryCancel(ctx context.Context, conn *connection, next *cancellation) {
	defer conn.release()
	epoch, err := l.fleet.epoch.get(ctx)
	if err != nil {
		l.fleet.options.Log.Error(err, "Cannot learn this leader's epoch; cancellations wait", "host", l.key)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cancelling, l.cancelNext = false, l.now().Add(jitter(time.Second))
		l.settle()
		return
	}
	state, err := request(ctx, conn, l.fleet.options.HandOver, func(ctx context.Context) (machine.JobState, error) {
		return conn.machine.Cancel(ctx, next.id, epoch)
	})
	l.cancelled(conn, next, state, err)
}

func (l *link) cancelled(conn *connection, next *cancellation, state machine.JobState, err error) {
	l.logDefect(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.settle()
	l.cancelling = false
	done := func(outcome string) {
		countCancel(outcome)
		l.forgetCancels(func(c *cancellation) bool { return c == next })
	}
	switch {
	case err == nil && state.Phase == machine.JobRunning:
		l.repeatCancel(next, "it did not end")
	case err == nil:
		done(cancelOutcome(state.Phase))
	case errors.Is(err, errors.ErrUnsupported):
		done("unsupported")
	case refusedByHost(err):
		l.repeatCancel(next, l.describe(err))
		return
	default:
		l.repeatCancel(next, l.describe(err))
		if l.conn == conn {
			l.fail(err, conn)
		}
		return
	}
	if u := l.users[next.object]; u != nil && l.status.State == Connected {
		l.followReceipt(u, next.id)
		l.ramp = 0
		l.passSoon()
	}
}

// repeatCancel keeps a request for another attempt, now and then. One that a host
// does not get done is given up, so that it cannot cost the link its connection for ever.
func (l *link) repeatCancel(c *cancellation, why string) {
	c.attempts++
	l.cancelNext = l.now().Add(backoff(c.attempts))
	if c.attempts < maxCancelAttempts {
		return
	}
	countCancel("given_up")
	l.fleet.options.Log.Info("A job could not be cancelled; it is not asked for again", "host", l.key, "job", c.id, "reason", why)
	l.forgetCancels(func(other *cancellation) bool { return other == c })
}

func cancelOutcome(phase machine.JobPhase) string {
	switch phase {
	case machine.JobCancelled:
		return "cancelled"
	case machine.JobAbsent:
		return "absent"
	}
	return "ended"
}
