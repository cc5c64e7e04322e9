package hybridapplication

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// Changes tells when an object of an application changed. *objects.Cluster implements it.
type Changes interface {
	// OnChange sets whom to tell; the function does not block.
	OnChange(notify func(application types.NamespacedName))
}

// Options of the controller.
type Options struct {
	// Changes of the applications' objects.
	Changes Changes
	// MaxConcurrentReconciles is how many applications are worked on at once; 0 means 4.
	MaxConcurrentReconciles int
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, options Options) error {
	workers := options.MaxConcurrentReconciles
	if workers == 0 {
		workers = 4
	}
	members := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		options.Changes.OnChange(func(application types.NamespacedName) {
			queue.Add(reconcile.Request{NamespacedName: application})
		})
		return nil
	})
	wanted := predicate.Or(predicate.GenerationChangedPredicate{}, requested())
	err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.HybridApplication{}, builder.WithPredicates(wanted)).
		WatchesRawSource(members).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Named("hybridapplication").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the HybridApplication controller: %w", err)
	}
	return nil
}

// requested passes updates by which somebody asks for a pass.
func requested() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return v1alpha1.RequestedAt(e.ObjectOld.GetAnnotations()) != v1alpha1.RequestedAt(e.ObjectNew.GetAnnotations())
	}}
}

// watch makes sure that changes of the objects in the graph, and of those that
// left it, wake the application. It comes before reading, so that no change
// falls between.
func (r *Reconciler) watch(p *pass) error {
	var wanted []objects.Wanted
	for _, node := range p.nodes() {
		if node.Checked {
			wanted = append(wanted, objects.Wanted{Reference: referenceOf(node.Object), Foreign: node.Access == graph.ReadOnly})
		}
	}
	unwatched, err := r.Objects.Watch(p.key, p.as, append(wanted, p.recorded(p.leftGraph())...))
	if err != nil {
		return err
	}
	for _, kind := range unwatched {
		p.unwatched[kind] = true
	}
	return nil
}

// recorded makes lines of the inventory wake the application.
func (p *pass) recorded(all []entry) []objects.Wanted {
	var wanted []objects.Wanted
	for _, e := range all {
		wanted = append(wanted, objects.Wanted{Reference: e.reference()})
	}
	return wanted
}
