package hybridapplication

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
	"github.com/isthmus-dev/isthmus/internal/objects/statuspatch"
)

// How long until the next look, where no event will tell. All are jittered.
const (
	// afterRefusal: a person has to act, perhaps on an object that is not watched (a Role).
	afterRefusal = time.Minute
	// afterRejection: a schema may have changed.
	afterRejection = 5 * time.Minute
	// afterUnknownKind: a CustomResourceDefinition may have been installed.
	afterUnknownKind = 15 * time.Second
	// unwatched objects are polled.
	afterUnwatched = 30 * time.Second
	// afterStale: the cache will have the newer object by then.
	afterStale = time.Second
)

// Objects reaches an application's objects as its ServiceAccount.
// *objects.Cluster implements it.
type Objects interface {
	// Served names a recorded object by a version that is served.
	Served(ref objects.Reference) (objects.Reference, error)
	// Get returns an object that is at least as new as notBefore (a
	// resourceVersion, or nothing), or nil if there is none. It must not be changed.
	Get(ctx context.Context, as objects.Identity, ref objects.Reference, notBefore string) (*unstructured.Unstructured, error)
	// Apply makes the object as desired.
	Apply(ctx context.Context, as objects.Identity, desired *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// Delete removes the object if it still has that UID.
	Delete(ctx context.Context, as objects.Identity, ref objects.Reference, uid types.UID) error
	// Watch makes the application hear of these objects and no others. It
	// returns the kinds that cannot be watched.
	Watch(application types.NamespacedName, as objects.Identity, wanted []objects.Wanted) ([]schema.GroupVersionKind, error)
	// Forget ends the watches of an application.
	Forget(application types.NamespacedName)
}

// +kubebuilder:rbac:groups=isthmus.dev,resources=hybridapplications,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=isthmus.dev,resources=hybridapplications/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=impersonate
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler carries out HybridApplications.
type Reconciler struct {
	// Client reads HybridApplications from a cache and writes their status and finalizers.
	Client client.Client
	// Objects reaches everything else, as the applications' ServiceAccounts.
	Objects Objects
	// Schemas of the kinds in use.
	Schemas graph.Schemas
	// Recorder of events.
	Recorder events.EventRecorder
	// Clock tells since when a component is in its state.
	Clock clock.PassiveClock

	compiled graphs
}

// Reconcile makes one pass over one application.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (result ctrl.Result, err error) {
	app := &v1alpha1.HybridApplication{}
	if err := r.Client.Get(ctx, request.NamespacedName, app); err != nil {
		if apierrors.IsNotFound(err) {
			r.Objects.Forget(request.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("read HybridApplication: %w", err)
	}
	p := newPass(app, statuspatch.New(r.Client, app))
	defer func() { result, err = r.finish(ctx, p, result, err) }()

	if !app.DeletionTimestamp.IsZero() {
		return r.delete(ctx, p)
	}
	if err := p.patcher.AddFinalizer(ctx, app, v1alpha1.Finalizer); err != nil {
		return ctrl.Result{}, err
	}
	if app.Spec.Suspend {
		p.suspended()
		return ctrl.Result{}, nil
	}
	if err := r.compile(ctx, p); err != nil {
		return r.refuse(p, err)
	}
	if err := r.watch(p); err != nil {
		return ctrl.Result{}, err
	}
	r.observe(ctx, p)
	if err := r.applyLevels(ctx, p); err != nil {
		return ctrl.Result{}, err
	}
	r.prune(ctx, p)
	p.summarize()
	return r.next(p)
}

// finish writes the status, whatever the outcome of the pass, and answers the
// request for a pass. A pass that began from an old read is repeated quietly.
func (r *Reconciler) finish(ctx context.Context, p *pass, result ctrl.Result, err error) (ctrl.Result, error) {
	if statuspatch.IsStale(err) {
		return ctrl.Result{RequeueAfter: afterStale}, nil
	}
	if p.gone {
		r.compiled.forget(p.app.UID)
		r.Objects.Forget(p.key)
		return result, err
	}
	if err != nil && !p.summarized {
		p.retrying(err)
	}
	if err == nil {
		p.app.Status.LastHandledReconcileAt = v1alpha1.RequestedAt(p.app.Annotations)
	}
	p.publish(r.Clock.Now())
	_, patchErr := p.patcher.Patch(ctx, p.app)
	if patchErr = client.IgnoreNotFound(patchErr); patchErr == nil {
		r.tell(p)
	} else if statuspatch.IsStale(patchErr) && err == nil {
		return ctrl.Result{RequeueAfter: afterStale}, nil
	}
	return result, errors.Join(err, patchErr)
}

// next says when to look again, beside events.
func (r *Reconciler) next(p *pass) (ctrl.Result, error) {
	var soonest time.Duration
	sooner := func(when bool, d time.Duration) {
		if when && (soonest == 0 || d < soonest) {
			soonest = d
		}
	}
	sooner(len(p.graph.Unchecked) > 0, afterUnknownKind)
	sooner(len(p.unwatched) > 0, afterUnwatched)
	sooner(p.refused() != nil, afterRefusal)
	if soonest > 0 {
		soonest = wait.Jitter(soonest, 0.2)
	}
	return ctrl.Result{RequeueAfter: soonest}, p.transient
}

// refuse ends a pass over a graph that cannot be carried out. What runs is left
// as it is, and goes on being watched.
func (r *Reconciler) refuse(p *pass, err error) (ctrl.Result, error) {
	var rejection *graph.Rejection
	if !errors.As(err, &rejection) {
		return ctrl.Result{}, err
	}
	p.rejected(rejection)
	return ctrl.Result{RequeueAfter: wait.Jitter(afterRejection, 0.2)}, nil
}
