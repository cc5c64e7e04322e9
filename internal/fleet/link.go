package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// link is all there is about one host. Its methods either take mu and return
// soon, or run in a goroutine of their own and hold mu only at their ends.
type link struct {
	fleet *Fleet
	key   HostKey

	mu         sync.Mutex
	configured bool
	endpoint   Endpoint
	generation int // of the endpoint; the result of work that was begun for an earlier one is dropped
	status     HostStatus
	announced  HostStatus // as the Host's controller was told last
	users      map[Object]*user

	// observation
	conn     *connection
	bootID   string
	address  string          // IP of the latest connection that answered
	checks   []machine.Check // the union of all users' checks
	revision int             // of checks
	wanted   int             // the latest revision that asks for a look of its own
	beyond   map[machine.Check]bool
	answers  map[machine.Check]machine.Answer
	prints   map[machine.Check]uint64 // of answers with text, as they came
	heard    uint64                   // print of the facts, as they came
	passes   int                      // questions begun
	passing  context.CancelFunc       // ends the dial of the pass in flight; nil: none is
	again    bool                     // a pass was asked for while one was in flight
	nextPass time.Time                // zero: none is planned
	failures int
	// described is the latest error in words.
	described struct {
		print   uint64
		message string
	}
	refused refusedLogin
	ramp    time.Duration // after a pass that saw a running job

	// mutation
	queue    []*queued
	handing  *handing  // nil: the lane is free
	handNext time.Time // not before
	forget   []string
	tidyNext time.Time // not before
	untidied int       // attempts in a row that removed nothing

	// cancellation, beside the lane
	cancels    []*cancellation
	cancelling bool
	cancelNext time.Time // not before

	probes map[Probe]*probing
}

// refusedLogin is the login that was refused last. Coming back to it, whatever
// was configured in between, is no reason for another attempt.
type refusedLogin struct{ login, requestedAt, message string }

// user is an object on a host.
type user struct {
	watching   bool
	watch      Watch
	revision   int  // of the link's checks when this object's changed
	complete   bool // a pass answered all checks
	observedAt time.Time
	changed    bool              // since the object's controller was told
	jobs       map[string]*stage // accepted, and not seen through
	receipts   []string          // ids whose receipts are asked for, beside the watched ones
	errors     map[string]string
	secrets    map[string][]machine.Secret // by job: texts must not show them
}

// stage of a job on its way to the host.
type stage struct {
	handed bool
	after  int // number of passes begun when it was handed over
}

func newLink(f *Fleet, key HostKey) *link {
	return &link{
		fleet:   f,
		key:     key,
		status:  HostStatus{State: Idle},
		users:   map[Object]*user{},
		answers: map[machine.Check]machine.Answer{},
		prints:  map[machine.Check]uint64{},
		probes:  map[Probe]*probing{},
	}
}

func (l *link) now() time.Time { return l.fleet.options.Clock.Now() }

// visit lets the link do what is due.
func (l *link) visit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
}

// settle begins what is due, tells what has changed, and plans the next visit.
// It ends every section in which something changed. The caller holds mu.
func (l *link) settle() {
	now := l.now()
	l.abortStaging()
	if l.configured && l.fleet.work.running() {
		l.beginPass(now)
		l.beginMutation(now)
		l.beginCancel(now)
		l.beginProbes(now)
		l.fleet.schedule.set(l, l.due())
	}
	l.announce()
}

// due is when the link has something to do next; zero: when it is told something.
func (l *link) due() time.Time {
	var due time.Time
	earlier := func(at time.Time) {
		if !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	if l.passing == nil {
		earlier(l.nextPass)
	}
	if l.wantsMutation() {
		earlier(l.mutationNext())
	}
	if l.nextCancel() != nil {
		earlier(l.cancelNext)
	}
	earlier(l.nextProbe())
	return due
}

// announce tells the controllers of the Host and of its users what changed.
func (l *link) announce() {
	current := l.status
	current.LastSeen, current.Since = time.Time{}, time.Time{}
	if l.configured && current != l.announced {
		moved := current.State != l.announced.State
		l.announced = current
		l.fleet.notify(Object{Kind: HostKind, Key: l.key})
		if moved {
			l.touchAll()
		}
	}
	for object, u := range l.users {
		if u.changed {
			u.changed = false
			l.fleet.notify(object)
		}
	}
}

func (l *link) touchAll() {
	for _, u := range l.users {
		u.changed = true
	}
}

func (l *link) setState(state State, message string) {
	if l.status.State != state {
		countHost(l.status.State, state)
		l.status.State, l.status.Since = state, l.now()
	}
	l.status.Message = message
}

// configure takes an endpoint over.
func (l *link) configure(endpoint Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.endpoint, l.configured
	l.endpoint, l.configured = endpoint, true
	if !known {
		countHost("", l.status.State)
		l.recall(endpoint)
	}
	switch {
	case !known || endpoint.Version != before.Version:
		l.renew()
	case endpoint.Spec.Suspend != before.Spec.Suspend:
		l.renew()
	case endpoint.RequestedAt != before.RequestedAt:
		l.hurry()
	case interval(endpoint.Spec) != interval(before.Spec):
		l.replan()
	}
	if endpoint.Spec.Maintenance.Enabled {
		l.refuseQueue(maintenanceMessage(endpoint.Spec.Maintenance))
	}
	l.settle()
}

// recall takes over that this login was refused before this process began.
func (l *link) recall(endpoint Endpoint) {
	if endpoint.Refused != "" {
		l.refused = refusedLogin{endpoint.login(), endpoint.RequestedAt, endpoint.Refused}
	}
}

// renew starts the link anew for the endpoint that it has now. A link that was
// connected stays so until the new connection proves otherwise, but nothing
// that was learnt or decided before counts for the new endpoint.
func (l *link) renew() {
	l.generation++
	l.disconnect()
	l.refuseQueue("the Host was changed before the job was begun; nothing was done")
	for _, u := range l.users {
		u.complete = false
	}
	l.forgetPrints()
	l.failures, l.ramp, l.handNext, l.cancelNext = 0, 0, time.Time{}, time.Time{}
	if l.endpoint.Spec.Suspend {
		l.nextPass = time.Time{}
		l.status.Version = l.endpoint.Version
		l.setState(Suspended, "")
		return
	}
	if l.refused.login != "" && l.refused.login == l.endpoint.login() && l.refused.requestedAt == l.endpoint.RequestedAt {
		l.nextPass = time.Time{}
		l.status.Version, l.status.Answered = l.endpoint.Version, l.endpoint.RequestedAt
		l.setState(CredentialsRefused, l.refused.message)
		return
	}
	if l.status.State != Connected {
		l.setState(Connecting, "")
		l.status.Version = l.endpoint.Version
		l.status.Unpinned = false
	}
	l.nextPass = l.now()
}

// hurry makes one attempt now, whatever stopped the earlier ones.
func (l *link) hurry() {
	if l.endpoint.Spec.Suspend {
		return
	}
	l.failures = 0
	l.passSoon()
}

// forgetPrints has all texts looked at anew: what is a secret has changed.
func (l *link) forgetPrints() {
	clear(l.prints)
	l.heard, l.described.message = 0, ""
}

func (l *link) passSoon() {
	l.again = l.passing != nil
	l.nextPass = l.now()
}

// replan follows a changed interval without waiting for the old one to end.
func (l *link) replan() {
	if l.status.State != Connected || l.passing != nil {
		return
	}
	if latest := l.now().Add(jitter(l.interval())); latest.Before(l.nextPass) {
		l.nextPass = latest
	}
}

// disconnect ends the connection: at once, but for a job that is being handed over.
func (l *link) disconnect() {
	if l.passing != nil {
		l.passing()
	}
	if l.conn != nil {
		l.conn.retire()
		l.conn = nil
	}
}

func (l *link) unconfigure() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.configured {
		return
	}
	countHost(l.status.State, "")
	l.generation++
	l.configured = false
	l.disconnect()
	l.refuseQueue("the Host was removed before the job was begun; nothing was done")
	l.endpoint, l.status, l.announced = Endpoint{}, HostStatus{State: Idle, Users: l.status.Users}, HostStatus{}
	l.nextPass, l.failures, l.bootID, l.forget, l.cancels = time.Time{}, 0, "", nil, nil
	l.forgetPrints()
	l.address, l.refused = "", refusedLogin{}
	l.fleet.redactors.forget()
	l.fleet.schedule.set(l, time.Time{})
	for _, u := range l.users {
		u.complete, u.changed = false, true
	}
	l.announce()
}

// stop ends the connection when the fleet ends.
func (l *link) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	l.disconnect()
	if l.configured {
		countHost(l.status.State, "")
	}
}

func (l *link) unneeded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.configured && len(l.users) == 0
}

func (l *link) observe() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.passing != nil: // It may have been begun before what it is to see; if it fails, the back-off stands.
		l.again = true
	case l.status.State == Connected:
		l.passSoon()
		l.settle()
	}
}

func (l *link) hostStatus() (HostStatus, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status, l.configured
}

// interval of the passes: the shortest that is asked for.
func (l *link) interval() time.Duration {
	shortest := interval(l.endpoint.Spec)
	for _, u := range l.users {
		if wanted := u.watch.Interval; wanted > 0 && wanted < shortest {
			shortest = wanted
		}
	}
	return shortest
}

// Defaults of spec.probe, for Hosts that no API server has defaulted.
const (
	defaultInterval = time.Minute
	defaultTimeout  = 10 * time.Second
)

func interval(spec v1alpha1.HostSpec) time.Duration {
	if spec.Probe.Interval != nil && spec.Probe.Interval.Duration > 0 {
		return spec.Probe.Interval.Duration
	}
	return defaultInterval
}

func timeout(spec v1alpha1.HostSpec) time.Duration {
	if spec.Probe.Timeout != nil && spec.Probe.Timeout.Duration > 0 {
		return spec.Probe.Timeout.Duration
	}
	return defaultTimeout
}

// jitter spreads what many links plan: a tenth to either side.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// spread places the second pass of a link anywhere in its interval, so that
// hosts that were met together are not asked together for ever.
func spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.1 + 0.9*rand.Float64()))
}

// backoff after a number of failures in a row.
func backoff(failures int) time.Duration {
	const longest = 5 * time.Minute
	if failures > 9 {
		return jitter(longest)
	}
	return jitter(min(time.Second<<max(failures-1, 0), longest))
}
