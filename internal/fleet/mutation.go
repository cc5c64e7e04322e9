package fleet

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	// maxForget is how many receipts are removed by one request.
	maxForget = 256
	// tidying waits so long for more receipts to be removed by the same request. It is short: an
	// operator that dies meanwhile leaves the receipt of an object that is gone.
	tidying = 100 * time.Millisecond
	// inTurn is how long the look after a job waits for the jobs that are handed over after it.
	inTurn = 250 * time.Millisecond
)

// queued is a job that waits to be handed over.
type queued struct {
	object Object
	job    machine.Job
}

// handing is what the lane of mutations is at.
type handing struct {
	job   *queued            // nil: receipts are removed
	abort context.CancelFunc // ends the staging of its content
}

func (l *link) submit(object Object, job machine.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.ensure(object)
	if u.jobs[job.ID] != nil {
		return
	}
	if refusal := l.refusal(); refusal != "" {
		l.refuseJob(u, job.ID, refusal)
		l.settle()
		return
	}
	delete(u.errors, job.ID)
	u.jobs[job.ID] = &stage{}
	if u.remember(job); len(job.Secrets) > 0 {
		l.forgetPrints()
	}
	l.queue = append(l.queue, &queued{object: object, job: job})
	l.settle()
}

// refusal says why no job is taken now; empty: one is. A link that was not
// connected yet takes jobs; one that is known not to get through does not.
func (l *link) refusal() string {
	switch l.status.State {
	case Unreachable, CredentialsRefused, Untrusted, AddressRefused, Fenced:
		return l.status.Message + "; nothing was done"
	case Suspended:
		return "the Host is suspended; nothing was done"
	}
	if l.endpoint.Spec.Maintenance.Enabled {
		return maintenanceMessage(l.endpoint.Spec.Maintenance)
	}
	if len(l.queue) >= maxQueue {
		return "too many jobs wait for the Host; nothing was done"
	}
	return ""
}

func maintenanceMessage(m v1alpha1.Maintenance) string {
	if m.Reason == "" {
		return "the Host is in maintenance; nothing was done"
	}
	return "the Host is in maintenance (" + m.Reason + "); nothing was done"
}

// refuseJob hands a job back. An error that the object knows already is no
// news, so a controller that submits again each time it is told does not spin.
func (l *link) refuseJob(u *user, id, message string) {
	delete(u.jobs, id)
	if u.errors[id] == message {
		return
	}
	if len(u.errors) >= maxErrors {
		clear(u.errors)
	}
	u.errors[id] = message
	u.changed = true
	countJob("refused")
}

// refuseQueue hands all jobs back that wait.
func (l *link) refuseQueue(message string) {
	for _, q := range l.queue {
		if u := l.users[q.object]; u != nil {
			l.refuseJob(u, q.job.ID, message)
		}
	}
	l.queue = nil
}

func (l *link) forgetJobs(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetCancels(func(c *cancellation) bool { return slices.Contains(ids, c.id) })
	if len(l.forget) == 0 {
		l.tidyNext = l.now().Add(tidying)
	}
	for _, id := range ids {
		if !slices.Contains(l.forget, id) && len(l.forget) < maxQueue {
			l.forget = append(l.forget, id)
		}
	}
	asked := false
	for _, u := range l.users {
		for _, id := range ids {
			delete(u.errors, id)
			delete(u.secrets, id)
			if at := slices.Index(u.receipts, id); at >= 0 {
				u.receipts = slices.Delete(u.receipts, at, at+1)
				asked = true
			}
		}
	}
	if asked {
		l.collect()
	}
	l.settle()
}

// wantsMutation tells whether something waits that may be handed over.
func (l *link) wantsMutation() bool {
	return len(l.queue)+len(l.forget) > 0 && l.handing == nil && l.conn != nil &&
		l.status.State == Connected && !l.endpoint.Spec.Maintenance.Enabled
}

// mutationNext is before when none is begun.
func (l *link) mutationNext() time.Time {
	if len(l.queue) == 0 && l.tidyNext.After(l.handNext) {
		return l.tidyNext
	}
	return l.handNext
}

// beginMutation begins the next mutation if its time has come. The caller holds mu.
func (l *link) beginMutation(now time.Time) {
	if !l.wantsMutation() || l.mutationNext().After(now) {
		return
	}
	conn, limit := l.conn.hold(), timeout(l.endpoint.Spec)
	lane := &handing{abort: func() {}}
	var mutate func(ctx context.Context)
	if len(l.queue) > 0 {
		staging, abort := context.WithCancel(context.Background())
		lane.job, lane.abort = l.queue[0], abort
		mutate = func(ctx context.Context) {
			defer context.AfterFunc(ctx, abort)()
			defer abort()
			l.handOver(ctx, staging, conn, lane.job)
		}
	} else {
		ids := slices.Clone(l.forget[:min(len(l.forget), maxForget)])
		mutate = func(ctx context.Context) { l.clearUp(ctx, conn, ids, limit) }
	}
	if !l.fleet.work.begin(mutate) {
		lane.abort()
		conn.release()
		return
	}
	l.handing = lane
}

// abortStaging ends the staging for a job that was handed back or taken away meanwhile.
func (l *link) abortStaging() {
	if l.handing != nil && l.handing.job != nil && !slices.Contains(l.queue, l.handing.job) {
		l.handing.abort()
	}
}

// handOver gives one job to the host. The job waits in the queue until its content
// is there, so that it can be handed back or cancelled up to then.
func (l *link) handOver(ctx, staging context.Context, conn *connection, next *queued) {
	defer conn.release()
	epoch, err := l.fleet.epoch.get(ctx)
	if err != nil {
		l.postpone(err)
		return
	}
	if err := l.stage(staging, conn, next.job.Blobs); err != nil {
		l.notStaged(conn, next, err)
		return
	}
	if !l.take(conn, next) {
		return
	}
	job := next.job
	job.Epoch = epoch
	state, err := request(ctx, conn, l.fleet.options.HandOver, func(ctx context.Context) (machine.JobState, error) {
		return conn.machine.Start(ctx, job)
	})
	l.handedOver(conn, next, state, err)
}

// take removes the job from the queue, unless it was handed back meanwhile.
func (l *link) take(conn *connection, next *queued) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn && len(l.queue) > 0 && l.queue[0] == next {
		l.queue = l.queue[1:]
		return true
	}
	l.handing = nil
	l.settle()
	return false
}

// postpone waits for the API server, without which no job can be signed with the epoch.
func (l *link) postpone(err error) {
	l.fleet.options.Log.Error(err, "Cannot learn this leader's epoch; jobs wait", "host", l.key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handing = nil
	l.handNext = l.now().Add(jitter(time.Second))
	l.settle()
}

func (l *link) handedOver(conn *connection, next *queued, state machine.JobState, err error) {
	l.logDefect(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.settle()
	l.handing = nil
	u := l.users[next.object]
	if err != nil {
		countJob(judge(err).outcome)
		if u != nil {
			l.refuseJob(u, next.job.ID, l.handOverMessage(err))
		}
		switch {
		case refusedByHost(err):
		case l.conn == conn:
			l.fail(err, conn)
		default: // A connection that came after this one may have looked before the host began the job.
			l.passAfterHandOver()
		}
		return
	}
	countJob(outcomeOf(state.Phase))
	if u == nil {
		return
	}
	// The job stays on its way until a pass that begins from now on is answered.
	u.jobs[next.job.ID] = &stage{handed: true, after: l.passes}
	l.followReceipt(u, next.job.ID)
	l.ramp = 0
	l.passAfterHandOver()
}

// passAfterHandOver looks at what a job has done, and waits a moment for the next one if there is one.
// The link may have a new connection by now; a host in back-off is looked at in any case.
func (l *link) passAfterHandOver() {
	soon := l.now().Add(inTurn)
	switch {
	case l.status.State != Connected:
	case len(l.queue) == 0, l.passing != nil: // What is planned during a pass is planned anew when it ends.
		l.passSoon()
	case l.nextPass.IsZero() || l.nextPass.After(soon):
		l.nextPass = soon
	}
}

// followReceipt has the link ask for the receipt of a job, in place of those of
// the object's jobs that are through.
func (l *link) followReceipt(u *user, id string) {
	receipts := []string{id}
	for _, earlier := range u.receipts {
		state, ok := l.answers[machine.JobReceipt{ID: earlier}].(machine.JobState)
		runs := ok && state.Phase == machine.JobRunning
		if earlier != id && (runs || u.jobs[earlier] != nil) {
			receipts = append(receipts, earlier)
		}
	}
	u.receipts = receipts
	l.collect()
}

func (u *user) follows(id string) bool {
	return slices.Contains(u.receipts, id) || slices.Contains(u.watch.Checks, machine.Check(machine.JobReceipt{ID: id}))
}

// clearUp removes receipts.
func (l *link) clearUp(ctx context.Context, conn *connection, ids []string, limit time.Duration) {
	defer conn.release()
	_, err := request(ctx, conn, limit, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, conn.machine.Forget(ctx, ids)
	})
	l.logDefect(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.settle()
	l.handing = nil
	if err == nil {
		l.untidied = 0
		l.forget = slices.DeleteFunc(l.forget, func(id string) bool { return slices.Contains(ids, id) })
		return
	}
	// The link's own back-off begins anew with each look that is answered.
	l.untidied++
	l.tidyNext = l.now().Add(backoff(l.untidied))
	if l.conn == conn {
		l.fail(err, conn)
	}
}

// refusedByHost tells a host that answered, and will not have a job, from one
// that did not answer: the connection is as good as before.
func refusedByHost(err error) bool {
	var refused *machine.RefusedError
	return errors.As(err, &refused)
}

func (l *link) handOverMessage(err error) string {
	if refusedByHost(err) {
		return l.describe(err) + "; nothing was done"
	}
	var stale *machine.StaleLeaderError
	if errors.As(err, &stale) {
		return stale.Error()
	}
	// A login that is refused says nothing either: a job takes several requests, and may change
	// the account or the certificate by which it is carried out.
	return l.describe(err) + "; whether the host began the job will be seen when it answers again"
}

func outcomeOf(phase machine.JobPhase) string {
	switch phase {
	case machine.JobSucceeded:
		return "succeeded"
	case machine.JobFailed:
		return "failed"
	case machine.JobRunning:
		return "running"
	case machine.JobCancelled:
		return "cancelled"
	}
	return "unknown"
}
