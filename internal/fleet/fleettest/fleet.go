package fleettest

import (
	"maps"
	"regexp"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// TB is what the fakes need of a test; *testing.T and GinkgoTB() are such.
type TB interface {
	Helper()
	Errorf(format string, arguments ...any)
}

// Submission is a job that a controller submitted.
type Submission struct {
	Host   fleet.HostKey
	Object fleet.Object
	Job    machine.Job
}

// Watched is what an object watches.
type Watched struct {
	Host  fleet.HostKey
	Watch fleet.Watch
}

// Fleet is a fleet without hosts: it shows what the test sets.
type Fleet struct {
	t TB

	mu          sync.Mutex
	endpoints   map[fleet.HostKey]fleet.Endpoint
	configured  []fleet.Endpoint
	removed     []fleet.HostKey
	hosts       map[fleet.HostKey]fleet.HostStatus
	watches     map[fleet.Object]Watched
	views       map[fleet.Object]fleet.View
	submissions []Submission
	observed    []fleet.Object
	cancelled   []string
	forgotten   []string
	refusal     string
	events      map[string]chan event.GenericEvent
}

// NewFleet makes an empty one.
func NewFleet(t TB) *Fleet {
	f := &Fleet{t: t, events: map[string]chan event.GenericEvent{}}
	f.Reset()
	return f
}

// Reset forgets everything but the event channels.
func (f *Fleet) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endpoints = map[fleet.HostKey]fleet.Endpoint{}
	f.hosts = map[fleet.HostKey]fleet.HostStatus{}
	f.watches = map[fleet.Object]Watched{}
	f.views = map[fleet.Object]fleet.View{}
	f.configured, f.removed, f.submissions, f.observed, f.forgotten, f.cancelled = nil, nil, nil, nil, nil, nil
	f.refusal = ""
}

// The port, as fleet.Fleet implements it.

// Events returns the channel that Notify sends to.
func (f *Fleet) Events(kind string) <-chan event.GenericEvent { return f.channel(kind) }

func (f *Fleet) channel(kind string) chan event.GenericEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events[kind] == nil {
		f.events[kind] = make(chan event.GenericEvent, 1024)
	}
	return f.events[kind]
}

// Configure records the endpoint. A Host that no test has set is Connecting from then on.
func (f *Fleet) Configure(host fleet.HostKey, endpoint fleet.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if endpoint.Version == "" {
		f.t.Helper()
		f.t.Errorf("Configure(%s): the endpoint has no version", host)
	}
	f.endpoints[host] = endpoint
	f.configured = append(f.configured, endpoint)
	if _, set := f.hosts[host]; !set {
		f.hosts[host] = fleet.HostStatus{State: fleet.Connecting, Version: endpoint.Version}
	}
}

// Remove records the removal.
func (f *Fleet) Remove(host fleet.HostKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.endpoints, host)
	delete(f.hosts, host)
	f.removed = append(f.removed, host)
}

// Host returns what SetHost set, speaking of the endpoint that was configured last.
func (f *Fleet) Host(host fleet.HostKey) (fleet.HostStatus, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.host(host)
}

func (f *Fleet) host(host fleet.HostKey) (fleet.HostStatus, bool) {
	status, ok := f.hosts[host]
	if !ok {
		return fleet.HostStatus{State: fleet.Idle}, false
	}
	if status.Version == "" {
		status.Version = f.endpoints[host].Version
	}
	for _, watched := range f.watches {
		if watched.Host == host {
			status.Users++
		}
	}
	return status, ok
}

// Users lists the objects that watch a host.
func (f *Fleet) Users(host fleet.HostKey) []fleet.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	var users []fleet.Object
	for object, watched := range f.watches {
		if watched.Host == host {
			users = append(users, object)
		}
	}
	slices.SortFunc(users, func(a, b fleet.Object) int {
		return slices.Compare([]string{a.Kind, a.Key.String()}, []string{b.Kind, b.Key.String()})
	})
	return users
}

// Watch records what an object watches.
func (f *Fleet) Watch(host fleet.HostKey, object fleet.Object, watch fleet.Watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if object.Kind == "" || object.Key.Name == "" {
		f.t.Helper()
		f.t.Errorf("Watch(%s): the object %v has no kind or name", host, object)
	}
	f.watches[object] = Watched{Host: host, Watch: watch}
}

// Unwatch forgets an object.
func (f *Fleet) Unwatch(object fleet.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watches, object)
	delete(f.views, object)
}

// View shows what the test set for the object, on the host as it was set.
func (f *Fleet) View(host fleet.HostKey, object fleet.Object) fleet.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	view := f.views[object]
	view.Host, _ = f.host(host)
	view.Answers = maps.Clone(view.Answers)
	view.Probes = maps.Clone(view.Probes)
	view.JobErrors = maps.Clone(view.JobErrors)
	view.Queued = slices.Clone(view.Queued)
	return view
}

var jobID = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// Submit records a job; it stays queued until Finish or Refuse.
func (f *Fleet) Submit(host fleet.HostKey, object fleet.Object, job machine.Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.Helper()
	switch {
	case !jobID.MatchString(job.ID):
		f.t.Errorf("Submit: job id %q does not match %s", job.ID, jobID)
	case job.Timeout <= 0:
		f.t.Errorf("Submit(%s): the job has no timeout", job.ID)
	case job.Epoch != 0:
		f.t.Errorf("Submit(%s): the epoch is the fleet's to fill in", job.ID)
	case len(job.Steps) == 0:
		f.t.Errorf("Submit(%s): the job has no steps", job.ID)
	}
	view := f.views[object]
	if slices.Contains(view.Queued, job.ID) {
		return
	}
	f.submissions = append(f.submissions, Submission{Host: host, Object: object, Job: job})
	view.JobErrors = without(view.JobErrors, job.ID)
	if f.refusal != "" {
		view.JobErrors[job.ID] = f.refusal
		f.refusal = ""
	} else {
		view.Queued = append(slices.Clone(view.Queued), job.ID)
	}
	f.views[object] = view
}

// Cancel records the id. What becomes of the job is the test's to set: Finish or Refuse.
func (f *Fleet) Cancel(_ fleet.HostKey, _ fleet.Object, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancelled = append(f.cancelled, id)
}

// Cancelled lists the job ids that were given to Cancel, in order.
func (f *Fleet) Cancelled() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.cancelled)
}

// Observe records the request.
func (f *Fleet) Observe(_ fleet.HostKey, object fleet.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed = append(f.observed, object)
}

// Forget records the ids.
func (f *Fleet) Forget(_ fleet.HostKey, ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten = append(f.forgotten, ids...)
}

// What tests set.

// SetHost sets the state of a host's link.
func (f *Fleet) SetHost(host fleet.HostKey, status fleet.HostStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts[host] = status
}

// Update changes the view of an object. View.Host is set by SetHost.
func (f *Fleet) Update(object fleet.Object, change func(view *fleet.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	view := f.views[object]
	if view.Answers == nil {
		view.Answers = map[machine.Check]machine.Answer{}
	}
	if view.Probes == nil {
		view.Probes = map[fleet.Probe]fleet.ProbeState{}
	}
	view.JobErrors = without(view.JobErrors, "")
	change(&view)
	f.views[object] = view
}

// Answer sets answers of an object and makes its view complete.
func (f *Fleet) Answer(object fleet.Object, answers map[machine.Check]machine.Answer) {
	f.Update(object, func(view *fleet.View) {
		maps.Copy(view.Answers, answers)
		view.Complete = true
	})
}

// Finish hands a job over, with the receipt that the host keeps of it.
func (f *Fleet) Finish(object fleet.Object, id string, state machine.JobState) {
	f.Update(object, func(view *fleet.View) {
		view.Queued = slices.DeleteFunc(slices.Clone(view.Queued), func(queued string) bool { return queued == id })
		view.Answers[machine.JobReceipt{ID: id}] = state
	})
}

// Refuse hands a queued job back.
func (f *Fleet) Refuse(object fleet.Object, id, message string) {
	f.Update(object, func(view *fleet.View) {
		view.Queued = slices.DeleteFunc(slices.Clone(view.Queued), func(queued string) bool { return queued == id })
		view.JobErrors[id] = message
	})
}

// RefuseNext has the next Submit end in View.JobErrors.
func (f *Fleet) RefuseNext(message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusal = message
}

// Notify sends an event for an object.
func (f *Fleet) Notify(object fleet.Object) {
	metadata := &metav1.PartialObjectMetadata{}
	metadata.Namespace, metadata.Name = object.Key.Namespace, object.Key.Name
	f.channel(object.Kind) <- event.GenericEvent{Object: metadata}
}

// What tests read.

// Endpoint that is configured for a host.
func (f *Fleet) Endpoint(host fleet.HostKey) (fleet.Endpoint, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	endpoint, ok := f.endpoints[host]
	return endpoint, ok
}

// Configured lists all endpoints that were configured, in order.
func (f *Fleet) Configured() []fleet.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.configured)
}

// Removed lists the hosts that were removed, in order.
func (f *Fleet) Removed() []fleet.HostKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.removed)
}

// Watched is what an object watches now.
func (f *Fleet) Watched(object fleet.Object) (Watched, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	watched, ok := f.watches[object]
	return watched, ok
}

// Submissions lists the jobs that were submitted, in order.
func (f *Fleet) Submissions() []Submission {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.submissions)
}

// Observed lists the objects for which a pass was asked, in order.
func (f *Fleet) Observed() []fleet.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.observed)
}

// Forgotten lists the job ids that were given to Forget, in order.
func (f *Fleet) Forgotten() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.forgotten)
}

func without(errors map[string]string, id string) map[string]string {
	copied := map[string]string{}
	maps.Copy(copied, errors)
	delete(copied, id)
	return copied
}
