package externalservice

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Indexes of ExternalServices.
const (
	byHost      = "spec.hostRef"
	byConfigMap = "spec.files.contentFrom.configMapKeyRef.name"
)

const (
	workers     = 8
	passTimeout = time.Minute
)

// SetupWithManager wires the controller: its own objects, the Hosts and
// ConfigMaps that they name, the objects that they own, and the fleet's events
// (fleet.Events(Kind)).
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, changes <-chan event.GenericEvent) error {
	indexer := mgr.GetFieldIndexer()
	if err := indexer.IndexField(ctx, &v1alpha1.ExternalService{}, byHost, hostIndex); err != nil {
		return err
	}
	if err := indexer.IndexField(ctx, &v1alpha1.ExternalService{}, byConfigMap, configMapIndex); err != nil {
		return err
	}
	asked := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	ours := builder.WithPredicates(predicate.NewPredicateFuncs(func(object client.Object) bool {
		return object.GetLabels()[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue
	}))
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.ExternalService{}, builder.WithPredicates(asked)).
		Owns(&corev1.Service{}, builder.OnlyMetadata, ours).
		Owns(&discoveryv1.EndpointSlice{}, builder.OnlyMetadata, ours).
		Watches(&v1alpha1.Host{}, r.referrers(byHost), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesMetadata(&corev1.ConfigMap{}, r.referrers(byConfigMap)).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.guests), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(source.Channel(changes, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			ReconciliationTimeout:   passTimeout,
			NeedLeaderElection:      ptr.To(true),
		}).
		Complete(r)
}

func hostIndex(object client.Object) []string {
	return []string{object.(*v1alpha1.ExternalService).HostKey().String()}
}

func configMapIndex(object client.Object) []string {
	var names []string
	for _, file := range object.(*v1alpha1.ExternalService).Spec.Files {
		if file.ContentFrom != nil && file.ContentFrom.ConfigMapKeyRef != nil {
			names = append(names, object.GetNamespace()+"/"+file.ContentFrom.ConfigMapKeyRef.Name)
		}
	}
	return names
}

// referrers wakes the objects that name an object in an index.
func (r *Reconciler) referrers(index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		return r.requests(ctx, client.MatchingFields{index: object.GetNamespace() + "/" + object.GetName()})
	})
}

// guests wakes the objects of a namespace whose labels changed: a Host may allow it now.
func (r *Reconciler) guests(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.requests(ctx, client.InNamespace(namespace.GetName()))
}

func (r *Reconciler) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	list := &v1alpha1.ExternalServiceList{}
	if err := r.Client.List(ctx, list, options...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list ExternalServices")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{
			Namespace: list.Items[i].Namespace, Name: list.Items[i].Name,
		}})
	}
	return requests
}
