package externalservice

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/artifact"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/objects/statuspatch"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// Kind of the objects that this controller reconciles, as the fleet knows it.
const Kind = "ExternalService"

// +kubebuilder:rbac:groups=isthmus.dev,resources=externalservices,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=isthmus.dev,resources=externalservices/status,verbs=patch
// +kubebuilder:rbac:groups=isthmus.dev,resources=externalservices/finalizers,verbs=update
// +kubebuilder:rbac:groups=isthmus.dev,resources=hosts,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Observer tells what is on hosts. No method blocks.
type Observer interface {
	// Watch says what an object wants to know, in place of what it wanted before.
	Watch(host fleet.HostKey, object fleet.Object, watch fleet.Watch)
	// Unwatch forgets an object.
	Unwatch(object fleet.Object)
	// View is what is known now.
	View(host fleet.HostKey, object fleet.Object) fleet.View
	// Observe asks for a look at the host now.
	Observe(host fleet.HostKey, object fleet.Object)
}

// Worker has hosts changed. No method blocks.
type Worker interface {
	// Submit queues a job; its receipt is read with a JobReceipt check.
	Submit(host fleet.HostKey, object fleet.Object, job machine.Job)
	// Cancel ends a job, queued or running; its receipt, or its JobError, says so. Asked again it changes nothing.
	Cancel(host fleet.HostKey, object fleet.Object, id string)
	// Forget removes the receipts of finished jobs.
	Forget(host fleet.HostKey, ids []string)
}

// SecretReader reads one key of a Secret, live.
type SecretReader interface {
	// Value returns the key's value; its errors name what is missing, never a value.
	Value(ctx context.Context, namespace string, reference v1alpha1.KeyReference) ([]byte, error)
}

// Artifacts downloads content that hosts do not download themselves.
type Artifacts interface {
	// Open begins a download; reading it fails if it is not what was wanted. Only a
	// link of the fleet calls it, when it hands a job over.
	Open(ctx context.Context, wanted artifact.Request) (io.ReadCloser, error)
}

// Reconciler reconciles ExternalServices.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads single objects that are not worth caching: ConfigMaps, Services, EndpointSlices.
	Live    client.Reader
	Secrets SecretReader
	// Fleet and Jobs are the same fleet, for its two uses.
	Fleet Observer
	Jobs  Worker
	// Artifacts is where spec.files[].source with via: Operator comes from.
	Artifacts Artifacts
	// Cluster is the UID of the kube-system namespace: who owns what on hosts.
	Cluster  string
	Recorder events.EventRecorder
	Clock    clock.PassiveClock

	memory memory
}

// Reconcile makes one pass over an ExternalService.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (result ctrl.Result, err error) {
	object := &v1alpha1.ExternalService{}
	if err := r.Client.Get(ctx, request.NamespacedName, object); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.Fleet.Unwatch(fleet.Object{Kind: Kind, Key: request.NamespacedName})
			r.memory.drop(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	p := r.begin(object)
	defer func() { result, err = p.finish(ctx, err) }()

	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, p.delete(ctx)
	}
	if !controllerutil.ContainsFinalizer(object, v1alpha1.Finalizer) {
		if err := p.patcher.AddFinalizer(ctx, object, v1alpha1.Finalizer); err != nil {
			return ctrl.Result{}, err
		}
	}
	for _, phase := range []phase{p.heedCancel, p.pause, p.findHost, p.compile, p.observe, p.expose, p.evaluateOutputs, p.proceed} {
		if next, err := phase(ctx); err != nil || next == finished {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, nil
}

// phase is a part of a pass; after finished there is nothing more to do in this one.
type phase func(ctx context.Context) (next, error)

type next string

const (
	onwards  next = "onwards"
	finished next = "finished"
)

// pass holds what one pass over one object has read and concluded.
type pass struct {
	*Reconciler
	object  *v1alpha1.ExternalService
	patcher *statuspatch.Patcher
	self    fleet.Object
	owner   machine.Owner
	now     time.Time

	host    *v1alpha1.Host
	hostKey fleet.HostKey
	desired *service.Desired
	watched fleet.Watch
	view    fleet.View
	health  health
	// requested is the value of a reconcile request that is not answered yet.
	requested string
	// confidential: a value comes from a Secret, which is not watched.
	confidential bool

	verdict  verdict
	problems []problem // of the face in the cluster and of outputs: they spoil Ready
	happened []occurrence
	forget   []string
	swept    bool // forget has the receipts of the whole history
	after    time.Duration
}

func (r *Reconciler) begin(object *v1alpha1.ExternalService) *pass {
	key := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	p := &pass{
		Reconciler: r,
		object:     object,
		patcher:    statuspatch.New(r.Client, object),
		self:       fleet.Object{Kind: Kind, Key: key},
		owner:      machine.Owner{Cluster: r.Cluster, UID: string(object.UID), Object: key.String()},
		now:        r.Clock.Now(),
		hostKey:    hostKeyOf(object),
	}
	if asked := v1alpha1.RequestedAt(object.Annotations); asked != object.Status.LastHandledReconcileAt {
		p.requested = asked
	}
	return p
}

// again asks for another pass, at the earliest of the times that were asked for.
func (p *pass) again(after time.Duration) {
	if p.after == 0 || after < p.after {
		p.after = max(after, time.Millisecond)
	}
}

// pause leaves everything as it is while spec.suspend is set.
func (p *pass) pause(context.Context) (next, error) {
	if !p.object.Spec.Suspend {
		return onwards, nil
	}
	p.Fleet.Unwatch(p.self)
	p.verdict = verdict{kind: unknown, reason: v1alpha1.ReasonSuspended, message: "spec.suspend is set: nothing is looked at or changed"}
	p.answerRequest()
	return finished, nil
}

// answerRequest notes that a reconcile request has been served.
func (p *pass) answerRequest() {
	if p.requested != "" {
		p.object.Status.LastHandledReconcileAt = p.requested
	}
}

// finish writes the status, once, and only then tells what happened: a pass
// that began from an old read must not tell a story twice.
func (p *pass) finish(ctx context.Context, failed error) (ctrl.Result, error) {
	if failed == nil {
		p.writeConditions()
		_, failed = p.patcher.Patch(ctx, p.object)
		failed = client.IgnoreNotFound(failed)
	}
	if statuspatch.IsStale(failed) {
		return ctrl.Result{RequeueAfter: jitter(time.Second)}, nil
	}
	if failed != nil {
		return ctrl.Result{}, fmt.Errorf("reconcile ExternalService %s: %w", p.self.Key, failed)
	}
	p.tell()
	p.cancelJob()
	if len(p.forget) > 0 {
		p.Jobs.Forget(p.hostKey, p.forget)
	}
	if p.swept && p.verdict.kind != gone {
		p.memory.recall(p.self.Key, p.object.UID, func(it *recollection) { it.swept = true })
	}
	if p.after > 0 {
		return ctrl.Result{RequeueAfter: jitter(p.after)}, nil
	}
	return ctrl.Result{}, nil
}

// memory is what is worth remembering of an object between passes of one
// process. Nothing in it is needed: without it a little is done once more.
type memory struct {
	mu      sync.Mutex
	objects map[types.NamespacedName]recollection
}

type recollection struct {
	uid types.UID
	// swept: the receipts of the history were forgotten on the host.
	swept bool
	// unconnected is since when the host was seen without a connection.
	unconnected time.Time
}

// recall returns the recollection of an object, changed by a function.
func (m *memory) recall(key types.NamespacedName, uid types.UID, change func(*recollection)) recollection {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[types.NamespacedName]recollection{}
	}
	it := m.objects[key]
	if it.uid != uid {
		it = recollection{uid: uid}
	}
	change(&it)
	m.objects[key] = it
	return it
}

func (m *memory) drop(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
}
