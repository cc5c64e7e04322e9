package objects

import (
	"context"
	"fmt"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// streamKey names a watch. One watch serves all applications with the same
// ServiceAccount in the same namespace; a single object that is not ours has one of its own.
type streamKey struct {
	as        Identity
	kind      schema.GroupVersionKind
	namespace string
	// name is set for a single object, and empty for all that carry our label.
	name string
}

// stream is a running watch and what it has seen.
type stream struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
	// forbidden is set while the ServiceAccount may not watch; what the stream has seen is old then.
	forbidden atomic.Bool
	// owners by the value of PartOfLabel that their objects carry.
	owners map[string]types.NamespacedName
}

// Wanted is an object that an application wants to hear about.
type Wanted struct {
	Reference
	// Foreign objects are not ours and do not carry our label.
	Foreign bool
}

// OnChange sets whom to tell that an object of an application changed. It must
// be called before the first Watch, and must not block.
func (c *Cluster) OnChange(notify func(application types.NamespacedName)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notify = notify
}

// Watch makes the application hear about these objects and no others from now
// on. It does not wait. It returns the kinds that cannot be watched, as far as
// is known, because the ServiceAccount may not or the cluster does not know
// them: the caller has to look again after a while.
func (c *Cluster) Watch(application types.NamespacedName, as Identity, wanted []Wanted) (unwatched []schema.GroupVersionKind, err error) {
	keys := map[streamKey]bool{}
	for _, w := range wanted {
		keys[keyFor(as, w)] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range keys {
		s, err := c.startLocked(key)
		if IsUnknownKind(err) {
			unwatched = append(unwatched, key.kind)
			continue
		}
		if err != nil {
			return nil, err
		}
		s.owners[SetID(application)] = application
		if s.forbidden.Load() {
			unwatched = append(unwatched, key.kind)
		}
	}
	for key := range c.owners[application] {
		if !keys[key] {
			c.releaseLocked(application, key)
		}
	}
	c.owners[application] = keys
	return unwatched, nil
}

// Forget ends all watches that only this application needed.
func (c *Cluster) Forget(application types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.owners[application] {
		c.releaseLocked(application, key)
	}
	delete(c.owners, application)
}

// Stop ends all watches.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		s.stop()
	}
	clear(c.streams)
	clear(c.owners)
}

func keyFor(as Identity, w Wanted) streamKey {
	key := streamKey{as: as, kind: w.GroupVersionKind, namespace: w.Namespace}
	if w.Foreign {
		key.name = w.Name
	}
	return key
}

func (c *Cluster) releaseLocked(application types.NamespacedName, key streamKey) {
	s := c.streams[key]
	if s == nil {
		return
	}
	delete(s.owners, SetID(application))
	if len(s.owners) == 0 {
		s.stop()
		delete(c.streams, key)
	}
}

// startLocked returns the stream, and starts it if nobody has yet. Kinds that
// the cluster does not know have none.
func (c *Cluster) startLocked(key streamKey) (*stream, error) {
	if s := c.streams[key]; s != nil {
		return s, nil
	}
	mapping, err := c.mapper.RESTMapping(key.kind.GroupKind(), key.kind.Version)
	if err != nil {
		return nil, fmt.Errorf("look up kind %s: %w", key.kind.Kind, err)
	}
	client, err := c.clients.as(key.as)
	if err != nil {
		return nil, err
	}
	namespace := key.namespace
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		namespace = metav1.NamespaceAll
	}
	informer := dynamicinformer.NewFilteredDynamicInformer(client, mapping.Resource, namespace, 0, cache.Indexers{}, key.selector).Informer()
	s := &stream{informer: informer, owners: map[string]types.NamespacedName{}}
	if err := c.prepare(s, key); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	c.streams[key] = s
	go informer.RunWithContext(ctx)
	return s, nil
}

// selector limits a watch to what is needed: our own objects, or a single one.
func (k streamKey) selector(options *metav1.ListOptions) {
	if k.name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, k.name).String()
		return
	}
	options.LabelSelector = v1alpha1.ManagedByLabel + "=" + v1alpha1.ManagedByValue + "," + PartOfLabel
}

func (c *Cluster) prepare(s *stream, key streamKey) error {
	if err := s.informer.SetTransform(s.received); err != nil {
		return fmt.Errorf("set up watch of %s: %w", key.kind.Kind, err)
	}
	onError := func(_ context.Context, _ *cache.Reflector, err error) {
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			c.markForbidden(s)
		}
	}
	if err := s.informer.SetWatchErrorHandlerWithContext(onError); err != nil {
		return fmt.Errorf("set up watch of %s: %w", key.kind.Kind, err)
	}
	_, err := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { c.changed(s, key, object) },
		UpdateFunc: func(before, after any) { c.updated(s, key, before, after) },
		DeleteFunc: func(object any) { c.changed(s, key, object) },
	})
	if err != nil {
		return fmt.Errorf("set up watch of %s: %w", key.kind.Kind, err)
	}
	return nil
}

// received sees every object of the watch, which proves that it works, and
// halves what is held in memory: nobody reads managedFields here.
func (s *stream) received(object any) (any, error) {
	s.forbidden.Store(false)
	if u, ok := object.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
	}
	return object, nil
}

// markForbidden tells the applications, once, that they have to look by themselves.
func (c *Cluster) markForbidden(s *stream) {
	if s.forbidden.Swap(true) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, application := range s.owners {
		c.notify(application)
	}
}

// updated tells those whom the object belonged to before, too.
func (c *Cluster) updated(s *stream, key streamKey, before, after any) {
	if partOf(before) != partOf(after) {
		c.changed(s, key, before)
	}
	c.changed(s, key, after)
}

// partOf is what the object says about whom it belongs to.
func partOf(object any) string {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		return u.GetLabels()[PartOfLabel]
	}
	return ""
}

// changed tells the application that the object belongs to, or all that wanted
// to hear about a single object.
func (c *Cluster) changed(s *stream, key streamKey, object any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key.name == "" {
		if application, known := s.owners[partOf(object)]; known {
			c.notify(application)
		}
		return
	}
	for _, application := range s.owners {
		c.notify(application)
	}
}

// cached returns what a watch in sync has seen of the object, or nil.
func (c *Cluster) cached(as Identity, ref Reference) *unstructured.Unstructured {
	c.mu.Lock()
	ours := c.streams[keyFor(as, Wanted{Reference: ref})]
	foreign := c.streams[keyFor(as, Wanted{Reference: ref, Foreign: true})]
	c.mu.Unlock()
	name := ref.Name
	if ref.Namespace != "" {
		name = ref.Namespace + "/" + ref.Name
	}
	for _, s := range []*stream{ours, foreign} {
		if s == nil || s.forbidden.Load() || !s.informer.HasSynced() {
			continue
		}
		if object, found, err := s.informer.GetStore().GetByKey(name); err == nil && found {
			return object.(*unstructured.Unstructured)
		}
	}
	return nil
}
