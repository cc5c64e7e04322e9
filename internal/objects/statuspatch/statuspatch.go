// Package statuspatch writes the status and the finalizers of the objects that
// a reconciler owns.
//
// It promises that a pass which changed nothing sends nothing, that each write
// carries only what differs from the last known state, and that a pass which
// began from a stale read fails with a conflict (IsStale) instead of
// overwriting a newer record: status holds write-ahead records here, and an
// old one must never win. It must never write spec.
package statuspatch

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// Patcher writes the status of one object during one pass. It is serial: it
// remembers what the API server has, so that it can be called several times
// (a write-ahead record first, the outcome at the end). It is not safe for
// concurrent use.
type Patcher struct {
	client client.Client
	before client.Object
}

// New returns a Patcher for the object as it was read.
func New(c client.Client, object client.Object) *Patcher {
	return &Patcher{client: c, before: copyOf(object)}
}

// Patch writes the status of the object if it differs from what was read or
// last written, and tells whether it did. On success the object is what the API
// server answered.
func (p *Patcher) Patch(ctx context.Context, object client.Object) (changed bool, err error) {
	same, err := sameStatus(p.before, object)
	if err != nil || same {
		return false, err
	}
	patch := client.MergeFromWithOptions(p.before, client.MergeFromWithOptimisticLock{})
	if err := p.client.Status().Patch(ctx, object, patch); err != nil {
		return false, fmt.Errorf("write status: %w", err)
	}
	p.before = copyOf(object)
	return true, nil
}

// AddFinalizer makes sure that the object has the finalizer, in one write of its own.
func (p *Patcher) AddFinalizer(ctx context.Context, object client.Object, finalizer string) error {
	return p.finalizer(ctx, object, func(o client.Object) bool { return controllerutil.AddFinalizer(o, finalizer) })
}

// RemoveFinalizer lets the object go. That it is gone already is no error.
func (p *Patcher) RemoveFinalizer(ctx context.Context, object client.Object, finalizer string) error {
	err := p.finalizer(ctx, object, func(o client.Object) bool { return controllerutil.RemoveFinalizer(o, finalizer) })
	return client.IgnoreNotFound(err)
}

// finalizer patches metadata from a copy, because the answer would overwrite
// what the pass has written into the object's status so far.
func (p *Patcher) finalizer(ctx context.Context, object client.Object, change func(client.Object) bool) error {
	base, changed := copyOf(p.before), copyOf(p.before)
	if !change(changed) {
		return nil
	}
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := p.client.Patch(ctx, changed, patch); err != nil {
		return fmt.Errorf("write finalizers: %w", err)
	}
	p.before = changed
	object.SetFinalizers(changed.GetFinalizers())
	object.SetManagedFields(changed.GetManagedFields())
	object.SetResourceVersion(changed.GetResourceVersion())
	return nil
}

// IsStale tells whether a write failed because the pass began from an old read;
// the next pass will do, and nobody needs to be told.
func IsStale(err error) bool { return apierrors.IsConflict(err) }

func sameStatus(a, b client.Object) (bool, error) {
	before, err := statusOf(a)
	if err != nil {
		return false, err
	}
	after, err := statusOf(b)
	if err != nil {
		return false, err
	}
	return equality.Semantic.DeepEqual(before, after), nil
}

// statusOf compares statuses as the API server would see them: nil and empty are the same there.
func statusOf(object client.Object) (any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("convert status: %w", err)
	}
	return content["status"], nil
}

func copyOf(object client.Object) client.Object { return object.DeepCopyObject().(client.Object) }
