package hybridapplication

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// entry is a line of the inventory.
type entry struct{ *v1alpha1.InventoryEntry }

func (e entry) reference() objects.Reference {
	return objects.Reference{
		GroupVersionKind: schema.FromAPIVersionAndKind(e.APIVersion, e.Kind),
		Namespace:        e.Namespace, Name: e.Name,
	}
}

// entries of the inventory. They are the status's own: what is changed here is written.
func (p *pass) entries() []entry {
	all := make([]entry, 0, len(p.app.Status.Inventory))
	for i := range p.app.Status.Inventory {
		all = append(all, entry{&p.app.Status.Inventory[i]})
	}
	return all
}

// entryOf returns the line of an object, or one that is nil.
func (p *pass) entryOf(ref objects.Reference) entry {
	for _, e := range p.entries() {
		if e.reference().SameObject(ref) {
			return e
		}
	}
	return entry{}
}

// record adds a line for an object that is about to be created.
func (p *pass) record(node *graph.Node) {
	line := v1alpha1.InventoryEntry{
		APIVersion: node.Object.GroupVersion().String(), Kind: node.Object.Kind,
		Namespace: node.Object.Namespace, Name: node.Object.Name,
	}
	p.describe(entry{&line}, node)
	p.app.Status.Inventory = append(p.app.Status.Inventory, line)
	slices.SortStableFunc(p.app.Status.Inventory, func(a, b v1alpha1.InventoryEntry) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Component, b.Component))
	})
}

// describe brings what deletion needs to know up to date.
func (p *pass) describe(e entry, node *graph.Node) {
	e.Component = node.Name
	e.APIVersion = node.Object.GroupVersion().String()
	e.Order = int32(node.Level)
	e.DeletionPolicy = node.DeletionPolicy
	e.ServiceAccountName = p.as.Name
}

// applied notes what the API server made of an object.
func (e entry) applied(live *unstructured.Unstructured, hash string) {
	e.UID = string(live.GetUID())
	e.ResourceVersion = live.GetResourceVersion()
	e.DesiredHash = hash
}

// drop takes lines out of the inventory.
func (p *pass) drop(gone func(entry) bool) {
	p.app.Status.Inventory = slices.DeleteFunc(p.app.Status.Inventory, func(line v1alpha1.InventoryEntry) bool {
		return gone(entry{&line})
	})
}

// leftGraph lists the lines whose object no component describes any more.
func (p *pass) leftGraph() []entry {
	inGraph := func(e entry) bool {
		return slices.ContainsFunc(p.nodes(), func(n *graph.Node) bool {
			return n.Access == graph.Managed && referenceOf(n.Object).SameObject(e.reference())
		})
	}
	return slices.DeleteFunc(p.entries(), inGraph)
}

// last returns the lines with the greatest order: those that are removed first.
func last(all []entry) []entry {
	var greatest int32
	for _, e := range all {
		greatest = max(greatest, e.Order)
	}
	return slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return e.Order != greatest })
}
