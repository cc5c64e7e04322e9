package hybridapplication

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// prune removes what left the graph, the last of the old order first, once
// everything in the graph is ready: until then the old parts may still be needed.
func (r *Reconciler) prune(ctx context.Context, p *pass) {
	left := p.leftGraph()
	if len(left) == 0 {
		return
	}
	p.pruning = namesOf(left)
	if !p.allReady() {
		return
	}
	for len(left) > 0 {
		gone := r.removeLast(ctx, p, left)
		p.drop(func(e entry) bool { return gone[e.reference()] })
		if len(gone) == 0 || p.pruneError != nil {
			break
		}
		left = p.leftGraph()
	}
	p.pruning = namesOf(p.leftGraph())
}

func (p *pass) allReady() bool {
	for _, c := range p.components {
		if c.state != stateReady {
			return false
		}
	}
	return true
}

// removeLast takes one step towards removing the lines with the greatest order.
// It returns those that are gone, or are not to be removed; nothing while any is
// still there.
func (r *Reconciler) removeLast(ctx context.Context, p *pass, all []entry) map[objects.Reference]bool {
	gone := map[objects.Reference]bool{}
	for _, e := range last(all) {
		removed, err := r.remove(ctx, p, e)
		if err != nil {
			p.pruneError = err
		}
		if removed {
			gone[e.reference()] = true
		}
	}
	return gone
}

// remove takes one step towards removing an object, and tells whether it is
// gone. It is tried as the ServiceAccount that applied it, and then as the one
// that the application names now, so that an account that lost its rights can
// be replaced.
func (r *Reconciler) remove(ctx context.Context, p *pass, e entry) (gone bool, err error) {
	if e.DeletionPolicy == orphan {
		return true, nil
	}
	for _, name := range accountsOf(p.app, e) {
		gone, err = r.removeAs(ctx, p, e, objects.Identity{Namespace: p.app.Namespace, Name: name})
		if !objects.IsForbidden(err) {
			break
		}
	}
	return gone, err
}

// orphan leaves the object where it is.
const orphan = "Orphan"

func accountsOf(app *v1alpha1.HybridApplication, e entry) []string {
	present := serviceAccountOf(app)
	if e.ServiceAccountName == "" || e.ServiceAccountName == present {
		return []string{present}
	}
	return []string{e.ServiceAccountName, present}
}

func (r *Reconciler) removeAs(ctx context.Context, p *pass, e entry, as objects.Identity) (gone bool, err error) {
	ref, err := r.Objects.Served(e.reference())
	if objects.IsUnknownKind(err) {
		// The objects of a kind go with it.
		return true, nil
	}
	if err != nil {
		return false, err
	}
	live, err := r.Objects.Get(ctx, as, ref, objects.Latest)
	if err != nil {
		return false, err
	}
	if live == nil || !isRecorded(live, e, p.setID) {
		return true, nil
	}
	if live.GetDeletionTimestamp() != nil {
		return false, nil
	}
	if err := r.Objects.Delete(ctx, as, ref, live.GetUID()); err != nil {
		return false, err
	}
	p.happen(live, normal, "Deleted", "Delete", fmt.Sprintf("deleted %s", e.reference()))
	return false, nil
}

// isRecorded tells whether the object is the one that was applied: by its UID,
// or, if the operator died before it learned that, by our label.
func isRecorded(live *unstructured.Unstructured, e entry, setID string) bool {
	if e.UID != "" {
		return live.GetUID() == types.UID(e.UID)
	}
	return objects.Ours(live, "", setID) == nil
}

func namesOf(all []entry) []string {
	var names []string
	for _, e := range all {
		names = append(names, e.reference().String())
	}
	return names
}
