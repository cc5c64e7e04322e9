package hybridapplication

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// parallel is how many requests one pass has under way at a time.
const parallel = 8

// observe looks at the object of every component. What cannot be read is kept
// as the component's problem; the others are not held up by it.
func (r *Reconciler) observe(ctx context.Context, p *pass) {
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, node := range p.nodes() {
		c := &component{node: node}
		p.components[node.Name] = c
		if !node.Checked {
			continue
		}
		notBefore := ""
		if known := p.entryOf(referenceOf(node.Object)); known.InventoryEntry != nil {
			notBefore = known.ResourceVersion
		}
		group.Go(func() error {
			c.live, c.problem = guarded(ctx, func() (*unstructured.Unstructured, error) {
				return r.Objects.Get(ctx, p.as, referenceOf(node.Object), notBefore)
			})
			return nil
		})
	}
	_ = group.Wait() // No function of the group fails: each keeps its own problem.
	for _, node := range p.nodes() {
		p.admit(p.components[node.Name])
	}
}

// guarded makes a panic the problem of one component. controller-runtime's own
// guard does not reach the goroutines of a pass: it would end the operator.
func guarded(ctx context.Context, call func() (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	object, err := defect.Guard(call)
	var panicked *defect.PanicError
	if errors.As(err, &panicked) {
		ctrl.LoggerFrom(ctx).Error(err, "A request panicked", "panic", panicked.Value, "stack", string(panicked.Stack))
	}
	return object, err
}

// admit lets expressions see the object, if it is one that the component may speak for.
func (p *pass) admit(c *component) {
	if c.problem != nil {
		if !objects.IsRefused(c.problem) && !objects.IsUnknownKind(c.problem) {
			p.retry(c.problem)
		}
		return
	}
	if c.live == nil {
		return
	}
	if c.node.Access == graph.Managed {
		if c.problem = objects.Ours(c.live, p.recordedUID(c), p.setID); c.problem != nil {
			return
		}
	}
	p.see(c, c.live)
}

// see makes the object what expressions of others read.
func (p *pass) see(c *component, live *unstructured.Unstructured) {
	c.live = live
	p.values[c.node.Name] = live.Object
}

func (p *pass) recordedUID(c *component) string {
	known := p.entryOf(referenceOf(c.node.Object))
	if known.InventoryEntry == nil {
		return ""
	}
	return known.UID
}

// render fills in the values that are there.
func (p *pass) render(c *component) {
	if c.node.Access != graph.Managed || !c.node.Checked || c.problem != nil {
		return
	}
	manifest, err := p.graph.Render(c.node.Name, p.values)
	if err != nil {
		c.renderError = err
		return
	}
	c.desired = objects.Desired(manifest, referenceOf(c.node.Object), p.setID)
	c.hash, c.renderError = objects.Hash(c.desired)
}
