package fleet

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// HostKind is the kind under which changes of links are told.
const HostKind = "Host"

// Bounds that keep one host, or one object, from using up the operator.
const (
	maxChecks = 4096 // of one host; those beyond are answered by a Problem
	maxQueue  = 1024 // jobs that wait for one host
	maxErrors = 64   // of jobs of one object that are remembered
)

// Options of a fleet. Connect is required; everything else has a default.
type Options struct {
	Connect Connect
	// Kinds of objects whose controllers want events, beside HostKind.
	Kinds []string
	Clock clock.WithTicker
	// Epoch of this leader, written on each job. It is asked before the first job, and once.
	Epoch func(ctx context.Context) (int64, error)
	// Dials is how many connections may be made at once: 64. A dial without an
	// answer for a second leaves its place to another and counts among SlowDials: 256.
	Dials, SlowDials int
	// Policy of the addresses that the default Probe connects to.
	Policy AddressPolicy
	// Probe asks one health question; nil is an answer that means health.
	// The default asks over TCP or HTTP.
	Probe func(ctx context.Context, address string, probe Probe) error
	// HandOver is how long the host may take to accept a job: 2 minutes.
	HandOver time.Duration
	Log      logr.Logger
}

// Fleet holds the links. It is a manager.Runnable for the leader.
type Fleet struct {
	options   Options
	schedule  *schedule
	mailboxes map[string]*mailbox
	dials     *dials
	probing   chan struct{} // bounds the probes in flight
	epoch     epoch
	redactors redactors

	// mu guards the fields below; it is taken before a link's.
	mu      sync.RWMutex
	links   map[HostKey]*link
	objects map[Object]*link

	work work
}

// New makes a fleet. It does nothing before it is started.
func New(options Options) *Fleet {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	options.Dials = cmp.Or(options.Dials, 64)
	options.SlowDials = cmp.Or(options.SlowDials, 256)
	options.HandOver = cmp.Or(options.HandOver, 2*time.Minute)
	if options.Probe == nil {
		options.Probe = newProber(options.Policy).probe
	}
	if options.Epoch == nil {
		options.Epoch = func(context.Context) (int64, error) { return options.Clock.Now().Unix(), nil }
	}
	if options.Log.GetSink() == nil {
		options.Log = logr.Discard()
	}
	f := &Fleet{
		options:   options,
		schedule:  newSchedule(options.Clock),
		mailboxes: map[string]*mailbox{HostKind: newMailbox()},
		dials:     newDials(options.Dials, options.SlowDials),
		probing:   make(chan struct{}, maxProbes),
		epoch:     epoch{ask: options.Epoch},
		links:     map[HostKey]*link{},
		objects:   map[Object]*link{},
	}
	for _, kind := range options.Kinds {
		f.mailboxes[kind] = newMailbox()
	}
	return f
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: only the leader talks to hosts.
func (f *Fleet) NeedLeaderElection() bool { return true }

// Start runs the links until ctx ends; then it closes all connections.
func (f *Fleet) Start(ctx context.Context) error {
	f.work.open(ctx)
	running.Store(f, struct{}{})
	defer running.Delete(f)
	for _, m := range f.mailboxes {
		f.work.begin(func(ctx context.Context) { m.run(ctx) })
	}
	for _, l := range f.all() {
		l.visit()
	}
	f.schedule.run(ctx, (*link).visit)
	for _, l := range f.all() {
		l.stop()
	}
	f.work.wait()
	return nil
}

// Events of a kind: objects whose view changed, for source.Channel; for
// HostKind, Hosts whose link changed. A kind has one channel, for one consumer;
// reading it late or never holds nothing up. It panics for a kind that is not among
// Options.Kinds, because such a controller would never be told of anything.
func (f *Fleet) Events(kind string) <-chan event.GenericEvent {
	m, ok := f.mailboxes[kind]
	if !ok {
		panic("fleet: no events are kept for kind " + kind + ": add it to Options.Kinds")
	}
	return m.out
}

func (f *Fleet) notify(object Object) {
	if m, ok := f.mailboxes[object.Kind]; ok {
		m.add(object.Key)
	}
}

// Configure says how a host is reached. A new version makes a new connection
// and a new attempt, whatever happened before; a new RequestedAt makes a new
// attempt; an equal endpoint changes nothing.
func (f *Fleet) Configure(host HostKey, endpoint Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link(host).configure(endpoint)
}

// Remove ends the link of a host. What is watched there is kept, and served again by a later Configure.
func (f *Fleet) Remove(host HostKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l, ok := f.links[host]; ok {
		l.unconfigure()
		f.drop(l)
	}
}

// Host returns what is known of a host; false if it is not configured.
func (f *Fleet) Host(host HostKey) (HostStatus, bool) {
	if l := f.find(host); l != nil {
		return l.hostStatus()
	}
	return HostStatus{}, false
}

// Users lists the objects that watch something on a host, sorted.
func (f *Fleet) Users(host HostKey) []Object {
	if l := f.find(host); l != nil {
		return l.objects()
	}
	return nil
}

// Watch says what an object wants to know of a host, in place of what it
// wanted before. A changed set of checks makes a pass at once.
func (f *Fleet) Watch(host HostKey, object Object, watch Watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.link(host)
	if before := f.objects[object]; before != nil && before != l {
		before.unwatch(object)
		f.drop(before)
	}
	f.objects[object] = l
	l.watch(object, watch)
}

// Unwatch forgets an object, with its jobs that were not handed over.
func (f *Fleet) Unwatch(object Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.objects[object]; l != nil {
		delete(f.objects, object)
		l.unwatch(object)
		f.drop(l)
	}
}

// View returns what is known of a host for one object.
func (f *Fleet) View(host HostKey, object Object) View {
	if l := f.find(host); l != nil {
		return l.view(object)
	}
	return View{Host: HostStatus{State: Idle}}
}

// Submit queues a job; one that is queued or being handed over already is not
// queued again. The fleet fills in the epoch. A job that cannot be handed over
// ends in View.JobErrors; one whose host lost contact or got a new endpoint
// meanwhile is among them, because it was decided on what is no longer known.
func (f *Fleet) Submit(host HostKey, object Object, job machine.Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.link(host)
	if f.objects[object] != l {
		if before := f.objects[object]; before != nil {
			before.unwatch(object)
			f.drop(before)
		}
		f.objects[object] = l
	}
	l.submit(object, job)
}

// Cancel ends a job of an object: one that waits, or whose content is still on its way,
// is handed back (JobErrors); one that runs is ended on the host, beside whatever else goes
// on there, and its receipt then says Cancelled. While the host does not answer, is suspended
// or in maintenance, the request is kept, and carried out when the host can be asked again; it is
// dropped by Unwatch of the object, by Forget of the id, and by Remove of the host. Asking twice
// is asking once. A job that has ended keeps its receipt.
func (f *Fleet) Cancel(host HostKey, object Object, id string) {
	if l := f.find(host); l != nil {
		l.cancel(object, id)
	}
}

// Observe asks for a pass now, or, if one is on its way, for another after it:
// what is seen was so after the call. A host in back-off is not hurried.
func (f *Fleet) Observe(host HostKey, object Object) {
	if l := f.find(host); l != nil {
		l.observe()
	}
}

// Forget removes receipts of finished jobs from a host, when it is next changed anyway or has time.
func (f *Fleet) Forget(host HostKey, ids []string) {
	if l := f.find(host); l != nil {
		l.forgetJobs(ids)
	}
}

func (f *Fleet) find(host HostKey) *link {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.links[host]
}

// link returns the link of a host, made if need be. The caller holds mu.
func (f *Fleet) link(host HostKey) *link {
	l, ok := f.links[host]
	if !ok {
		l = newLink(f, host)
		f.links[host] = l
	}
	return l
}

// drop forgets a link that nobody needs. The caller holds mu.
func (f *Fleet) drop(l *link) {
	if l.unneeded() {
		delete(f.links, l.key)
	}
}

func (f *Fleet) all() []*link {
	f.mu.RLock()
	defer f.mu.RUnlock()
	links := make([]*link, 0, len(f.links))
	for _, l := range f.links {
		links = append(links, l)
	}
	return links
}

// epoch is asked once it is needed, and kept.
type epoch struct {
	ask   func(ctx context.Context) (int64, error)
	mu    sync.Mutex
	value int64
}

func (e *epoch) get(ctx context.Context) (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.value != 0 {
		return e.value, nil
	}
	value, err := e.ask(ctx)
	if err == nil {
		e.value = value
	}
	return value, err
}

// work counts the goroutines of a running fleet, so that they can be waited for.
type work struct {
	mu    sync.Mutex
	ctx   context.Context // of Start; nil when the fleet does not run
	count int
	idle  *sync.Cond
}

func (w *work) open(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx = ctx
	w.idle = sync.NewCond(&w.mu)
}

func (w *work) running() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ctx != nil && w.ctx.Err() == nil
}

// begin runs a function beside the caller; false, and nothing, when the fleet does not run.
func (w *work) begin(function func(ctx context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ctx.Err() != nil {
		return false
	}
	ctx := w.ctx
	w.spawn(func() { function(ctx) })
	return true
}

// finish runs what closes something, also while the fleet ends.
func (w *work) finish(function func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spawn(function)
}

func (w *work) spawn(function func()) {
	w.count++
	go func() {
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.count--; w.count == 0 {
				w.idle.Broadcast()
			}
		}()
		function()
	}()
}

// wait returns when nothing is under way.
func (w *work) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.count > 0 {
		w.idle.Wait()
	}
}

func sortedObjects[V any](of map[Object]V) []Object {
	objects := make([]Object, 0, len(of))
	for object := range of {
		objects = append(objects, object)
	}
	slices.SortFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return objects
}
