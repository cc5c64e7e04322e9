package hybridapplication

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// afterDelete is a safety net: the watch tells when an object is gone.
const afterDelete = 10 * time.Second

// delete removes what was recorded, the last of the order first, and then lets
// the application go. It reads nothing of the spec but the ServiceAccount's name.
func (r *Reconciler) delete(ctx context.Context, p *pass) (ctrl.Result, error) {
	if !slices.Contains(p.app.Finalizers, v1alpha1.Finalizer) {
		p.gone = true
		return ctrl.Result{}, nil
	}
	for len(p.app.Status.Inventory) > 0 {
		r.watchRecorded(p)
		gone := r.removeLast(ctx, p, p.entries())
		p.drop(func(e entry) bool { return gone[e.reference()] })
		if len(gone) == 0 || p.pruneError != nil {
			break
		}
	}
	if len(p.app.Status.Inventory) > 0 {
		return r.deletionWaits(p)
	}
	if err := p.patcher.RemoveFinalizer(ctx, p.app, v1alpha1.Finalizer); err != nil {
		return ctrl.Result{}, err
	}
	p.gone = true
	r.send(p)
	return ctrl.Result{}, nil
}

// deletionWaits says what is left, and when to look again.
func (r *Reconciler) deletionWaits(p *pass) (ctrl.Result, error) {
	p.deleting()
	if p.pruneError == nil {
		return ctrl.Result{RequeueAfter: wait.Jitter(afterDelete, 0.2)}, nil
	}
	if objects.IsRefused(p.pruneError) {
		return ctrl.Result{RequeueAfter: wait.Jitter(afterRefusal, 0.2)}, nil
	}
	return ctrl.Result{}, p.pruneError
}

// watchRecorded makes the end of an object wake the application. Without a
// watch it is looked at again after a while.
func (r *Reconciler) watchRecorded(p *pass) {
	wanted := p.recorded(p.entries())
	as := p.as
	if name := p.app.Status.Inventory[0].ServiceAccountName; name != "" {
		as.Name = name
	}
	_, _ = r.Objects.Watch(p.key, as, wanted) // Polling does without.
}
