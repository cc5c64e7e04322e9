package host

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/objects/statuspatch"
)

// +kubebuilder:rbac:groups=isthmus.dev,resources=hosts,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=isthmus.dev,resources=hosts/status,verbs=patch
// +kubebuilder:rbac:groups=isthmus.dev,resources=externalservices,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Fleet holds the links. No method blocks.
type Fleet interface {
	// Configure says how a host is reached; an endpoint that is equal to the one before changes nothing.
	Configure(host fleet.HostKey, endpoint fleet.Endpoint)
	// Remove ends the link of a host.
	Remove(host fleet.HostKey)
	// Host is what is known of a host; false if it is not configured.
	Host(host fleet.HostKey) (fleet.HostStatus, bool)
	// Events tells of Hosts whose link changed.
	Events(kind string) <-chan event.GenericEvent
}

// CredentialReader reads single, named Secrets and ConfigMaps, live. That
// something is missing or unusable is a credential.NotFoundError or InvalidError.
type CredentialReader interface {
	// Credentials reads what is in a Secret that lets the operator in.
	Credentials(ctx context.Context, namespace, name string) (credential.Credentials, error)
	// CA reads PEM certificates.
	CA(ctx context.Context, namespace string, reference v1alpha1.CAReference) ([]byte, error)
}

// Reconciler reconciles Hosts.
type Reconciler struct {
	// Client reads from the cache, with the index of Index, and writes.
	Client client.Client
	// Live reads a Host past the cache. Default: the manager's API reader.
	Live        client.Reader
	Credentials CredentialReader
	Fleet       Fleet
	Recorder    events.EventRecorder
	Clock       clock.PassiveClock
}

// Intervals at which a Secret is read again; package credential says why.
const (
	stoppedInterval = 5 * time.Second
	resyncInterval  = 10 * time.Minute
)

// Reconcile makes one pass over a Host.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (result ctrl.Result, err error) {
	object, err := r.read(ctx, request.NamespacedName)
	if err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.Fleet.Remove(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	p := r.begin(object)
	defer func() { result, err = p.finish(ctx, err) }()

	if err := p.countUsers(ctx); err != nil {
		return ctrl.Result{}, err
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, p.delete(ctx)
	}
	if err := p.patcher.AddFinalizer(ctx, object, v1alpha1.Finalizer); err != nil {
		return ctrl.Result{}, err
	}
	if err := p.observe(ctx); err != nil {
		return ctrl.Result{}, err
	}
	p.configure()
	if p.shouldPin() {
		if err := p.pin(ctx); err != nil {
			return ctrl.Result{}, err
		}
	}
	p.verdict = decide(p.situation())
	return ctrl.Result{}, nil
}

// read reads a Host. One that is to be trusted at the first meeting, and has not
// been met, is read live: the cache may not know of the key that the pass
// before has pinned, and a pass without it would begin to know the host anew.
func (r *Reconciler) read(ctx context.Context, key types.NamespacedName) (*v1alpha1.Host, error) {
	object := &v1alpha1.Host{}
	if err := r.Client.Get(ctx, key, object); err != nil {
		return nil, err
	}
	if !trustsFirst(object.Spec.SSH) || object.Status.HostKey != "" {
		return object, nil
	}
	object = &v1alpha1.Host{}
	return object, r.Live.Get(ctx, key, object)
}

// pass holds what one pass over one Host has read and concluded.
type pass struct {
	*Reconciler
	object  *v1alpha1.Host
	before  *v1alpha1.Host // as it was read
	patcher *statuspatch.Patcher
	key     fleet.HostKey
	now     time.Time

	users    []string         // ExternalServices on the host: "namespace/name", sorted
	jumpers  []string         // Hosts of the namespace that jump through this one, sorted
	hops     []*v1alpha1.Host // that this one is reached through, the nearest to it first
	endpoint fleet.Endpoint
	obstacle *obstacle // why there is no endpoint
	waiting  string    // for what it is not used yet; empty: it is
	link     fleet.HostStatus

	verdict  verdict
	released bool // the finalizer is gone: there is nothing left to write to
}

func (r *Reconciler) begin(object *v1alpha1.Host) *pass {
	return &pass{
		Reconciler: r,
		object:     object,
		before:     object.DeepCopy(),
		patcher:    statuspatch.New(r.Client, object),
		key:        types.NamespacedName{Namespace: object.Namespace, Name: object.Name},
		now:        r.Clock.Now(),
	}
}

// finish writes the status, once, and only then tells what happened.
func (p *pass) finish(ctx context.Context, failed error) (ctrl.Result, error) {
	if p.released {
		return ctrl.Result{}, failed
	}
	if failed == nil {
		p.writeStatus()
		_, failed = p.patcher.Patch(ctx, p.object)
		failed = client.IgnoreNotFound(failed)
	}
	if statuspatch.IsStale(failed) {
		return ctrl.Result{RequeueAfter: jitter(time.Second)}, nil
	}
	if failed != nil {
		return ctrl.Result{}, fmt.Errorf("reconcile Host %s: %w", p.key, failed)
	}
	p.tell()
	return ctrl.Result{RequeueAfter: jitter(p.verdict.again)}, nil
}

// jitter spreads passes: a tenth later at most, never earlier.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(d)/10)
}
