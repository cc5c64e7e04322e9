package host

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// Index of ExternalServices by the Host that they are on: "namespace/name".
const Index = "host.externalservices"

// workers is how many Hosts are reconciled at once; a pass waits for the API server only.
const workers = 8

// SetupWithManager adds the index and the controller.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.ExternalService{}, Index, IndexHost); err != nil {
		return fmt.Errorf("index ExternalServices by Host: %w", err)
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.Host{}, JumpIndex, IndexJump); err != nil {
		return fmt.Errorf("index Hosts by the Host that they jump through: %w", err)
	}
	if r.Live == nil {
		r.Live = mgr.GetAPIReader()
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("host").
		For(&v1alpha1.Host{}, builder.WithPredicates(asked())).
		Watches(&v1alpha1.ExternalService{}, handler.EnqueueRequestsFromMapFunc(requestHost), builder.WithPredicates(comesOrGoes())).
		Watches(&v1alpha1.Host{}, handler.EnqueueRequestsFromMapFunc(r.requestNeighbours), builder.WithPredicates(asked())).
		WatchesRawSource(source.Channel(r.Fleet.Events(fleet.HostKind), handler.EnqueueRequestsFromMapFunc(r.requestLinked))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// IndexHost is the function of Index.
func IndexHost(object client.Object) []string { return []string{hostOf(object).String()} }

func hostOf(object client.Object) types.NamespacedName {
	return object.(*v1alpha1.ExternalService).HostKey()
}

func requestHost(_ context.Context, object client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: hostOf(object)}}
}

// requestNeighbours asks for passes over the Hosts to which a change of one
// matters: those behind it, and the one that it jumps through (before the change and after it).
func (r *Reconciler) requestNeighbours(ctx context.Context, object client.Object) []reconcile.Request {
	requests := r.requestBehind(ctx, client.ObjectKeyFromObject(object))
	if jump, jumps := jumpOf(object.(*v1alpha1.Host)); jumps {
		requests = append(requests, reconcile.Request{NamespacedName: jump})
	}
	return requests
}

// requestLinked asks for passes over the Host whose link has news, and over those behind it.
func (r *Reconciler) requestLinked(ctx context.Context, object client.Object) []reconcile.Request {
	key := client.ObjectKeyFromObject(object)
	return append(r.requestBehind(ctx, key), reconcile.Request{NamespacedName: key})
}

func (r *Reconciler) requestBehind(ctx context.Context, key types.NamespacedName) []reconcile.Request {
	hosts, err := r.behind(ctx, key)
	if err != nil {
		// The cache answers as long as the manager runs.
		log.FromContext(ctx).Error(err, "Cannot tell the Hosts behind a Host of its change", "host", key)
	}
	requests := make([]reconcile.Request, 0, len(hosts)+1)
	for _, host := range hosts {
		requests = append(requests, reconcile.Request{NamespacedName: host})
	}
	return requests
}

// asked lets through what somebody else wants of a Host; our own status is no news.
func asked() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*v1alpha1.Host), e.ObjectNew.(*v1alpha1.Host)
		return before.Generation != after.Generation ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
			before.Status.HostKey != after.Status.HostKey ||
			v1alpha1.RequestedAt(before.Annotations) != v1alpha1.RequestedAt(after.Annotations)
	}}
}

// comesOrGoes lets through what changes the users of a Host; spec.hostRef cannot change.
func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
}
