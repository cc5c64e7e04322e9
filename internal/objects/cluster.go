package objects

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Cluster reads, applies, watches and deletes objects as ServiceAccounts. It is
// safe for concurrent use.
type Cluster struct {
	clients *clients
	mapper  meta.RESTMapper

	mu      sync.Mutex
	streams map[streamKey]*stream
	owners  map[types.NamespacedName]map[streamKey]bool
	notify  func(types.NamespacedName)
}

// NewCluster makes a Cluster out of the operator's configuration.
func NewCluster(config *rest.Config, mapper meta.RESTMapper) *Cluster {
	return &Cluster{
		clients: newClients(config),
		mapper:  mapper,
		streams: map[streamKey]*stream{},
		owners:  map[types.NamespacedName]map[streamKey]bool{},
		notify:  func(types.NamespacedName) {},
	}
}

// Served names an object by a version that is served, where the one by which it was
// recorded no longer is: an object outlives the versions of its kind.
func (c *Cluster) Served(ref Reference) (Reference, error) {
	mapping, err := c.mapper.RESTMapping(ref.GroupKind(), ref.Version)
	if IsUnknownKind(err) {
		mapping, err = c.mapper.RESTMapping(ref.GroupKind())
	}
	if err != nil {
		return ref, fmt.Errorf("look up kind %s: %w", ref.Kind, err)
	}
	ref.GroupVersionKind = mapping.GroupVersionKind
	return ref, nil
}

// resource returns where the object lives, for one identity.
func (c *Cluster) resource(as Identity, ref Reference) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapper.RESTMapping(ref.GroupKind(), ref.Version)
	if err != nil {
		return nil, fmt.Errorf("look up kind %s: %w", ref.Kind, err)
	}
	client, err := c.clients.as(as)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return client.Resource(mapping.Resource).Namespace(ref.Namespace), nil
	}
	return client.Resource(mapping.Resource), nil
}

// Get returns the object, or nil if there is none. It is at least as new as the
// resourceVersion notBefore, if that is set. Callers must not change it.
func (c *Cluster) Get(ctx context.Context, as Identity, ref Reference, notBefore string) (*unstructured.Unstructured, error) {
	if object := c.cached(as, ref); object != nil && !isOlder(object.GetResourceVersion(), notBefore) {
		return object, nil
	}
	resource, err := c.resource(as, ref)
	if err != nil {
		return nil, err
	}
	object, err := resource.Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err, as, "get", ref)
	}
	return object, nil
}

// Apply makes the object as desired, by server-side apply. Fields of ours that
// somebody else has changed are taken back. The caller has made sure that an
// object which is there is ours.
func (c *Cluster) Apply(ctx context.Context, as Identity, desired *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ref := Reference{GroupVersionKind: desired.GroupVersionKind(), Namespace: desired.GetNamespace(), Name: desired.GetName()}
	resource, err := c.resource(as, ref)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(desired.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ref, err)
	}
	applied, err := resource.Patch(ctx, ref.Name, types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager:    v1alpha1.FieldManager,
		Force:           ptr.To(true),
		FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		return nil, explain(err, as, "apply", ref)
	}
	return applied, nil
}

// Delete asks for the removal of the object with that UID. That it is gone, or
// has another UID by now, is no error: what was meant is not there any more.
func (c *Cluster) Delete(ctx context.Context, as Identity, ref Reference, uid types.UID) error {
	resource, err := c.resource(as, ref)
	if err != nil {
		return err
	}
	err = resource.Delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return explain(err, as, "delete", ref)
}
