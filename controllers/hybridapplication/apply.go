package hybridapplication

import (
	"context"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// applyLevels goes through the graph in its order. What is ready at once (a
// ConfigMap) lets the next level go in the same pass.
func (r *Reconciler) applyLevels(ctx context.Context, p *pass) error {
	for _, level := range levels(p.nodes()) {
		var due []*component
		for _, node := range level {
			c := p.components[node.Name]
			p.render(c)
			c.verdict = decide(p.factsOf(c))
			if c.apply {
				due = append(due, c)
			}
		}
		if err := r.recordIntent(ctx, p, due); err != nil {
			return err
		}
		r.applyAll(ctx, p, due)
		p.confirm(level)
	}
	return nil
}

// levels splits nodes, which are in order, by level.
func levels(nodes []*graph.Node) [][]*graph.Node {
	var all [][]*graph.Node
	for _, node := range nodes {
		if len(all) == 0 || all[len(all)-1][0].Level != node.Level {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], node)
	}
	return all
}

// factsOf gathers what the decision needs. Dependencies are in earlier levels
// and have been decided.
func (p *pass) factsOf(c *component) facts {
	f := facts{entry: p.entryOf(referenceOf(c.node.Object)).InventoryEntry}
	for _, name := range c.node.DependsOn {
		dependency := p.components[name]
		if dependency.state != stateReady {
			f.notReady = append(f.notReady, name)
		}
		if dependency.state == stateUnknown || dependency.behindUnknown {
			c.behindUnknown = true
		}
	}
	f.component = *c
	return f
}

// recordIntent writes down what is about to be created, before it is: should
// the operator die between the two, the next one knows what to look for.
func (r *Reconciler) recordIntent(ctx context.Context, p *pass, due []*component) error {
	before := len(p.app.Status.Inventory)
	for _, c := range due {
		if p.entryOf(referenceOf(c.node.Object)).InventoryEntry == nil {
			p.record(c.node)
		}
	}
	if len(p.app.Status.Inventory) == before {
		return nil
	}
	p.announce()
	_, err := p.patcher.Patch(ctx, p.app)
	return err
}

// applyAll sends the objects of one level, side by side.
func (r *Reconciler) applyAll(ctx context.Context, p *pass, due []*component) {
	answers := make([]*unstructured.Unstructured, len(due))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, c := range due {
		group.Go(func() error {
			answers[i], c.problem = guarded(ctx, func() (*unstructured.Unstructured, error) {
				return r.Objects.Apply(ctx, p.as, c.desired)
			})
			return nil
		})
	}
	_ = group.Wait() // No function of the group fails: each keeps its own problem.
	for i, c := range due {
		if c.problem != nil {
			p.notApplied(c)
			continue
		}
		p.wasApplied(c, answers[i])
	}
}

// wasApplied notes the outcome, and tells about it if something changed.
func (p *pass) wasApplied(c *component, live *unstructured.Unstructured) {
	e := p.entryOf(referenceOf(c.node.Object))
	switch {
	case c.live == nil:
		p.happen(live, normal, "Created", "Apply", "created "+c.node.Object.String())
	case c.live.GetResourceVersion() == live.GetResourceVersion():
		// Nothing changed: the API server writes some values in another form than ours.
	case e.DesiredHash == c.hash:
		p.happen(live, normal, "Corrected", "Apply", "corrected "+c.node.Object.String()+", which somebody had changed")
	default:
		p.happen(live, normal, "Configured", "Apply", "changed "+c.node.Object.String())
	}
	e.applied(live, c.hash)
	p.see(c, live)
	c.verdict = stateOf(c.node, live)
}

// notApplied keeps the reason. An object that the API server refused to create
// is not there, and needs no line in the inventory.
func (p *pass) notApplied(c *component) {
	if !objects.IsRefused(c.problem) {
		p.retry(c.problem)
		c.verdict = verdict{state: stateWaiting, message: c.problem.Error()}
		return
	}
	c.verdict = verdict{state: stateFailed, message: c.problem.Error()}
	if c.live == nil {
		ref := referenceOf(c.node.Object)
		p.drop(func(e entry) bool { return e.UID == "" && e.reference().SameObject(ref) })
	}
}

// confirm brings the lines of objects that are there up to date: an edit may
// have changed their order or policy, an operator that died after applying has
// not recorded their UID, and a status that was lost is built anew.
func (p *pass) confirm(level []*graph.Node) {
	for _, node := range level {
		c := p.components[node.Name]
		if c.live == nil || c.problem != nil || node.Access != graph.Managed {
			continue
		}
		e := p.entryOf(referenceOf(node.Object))
		if e.InventoryEntry == nil {
			p.record(node)
			e = p.entryOf(referenceOf(node.Object))
		}
		p.describe(e, node)
		e.UID = string(c.live.GetUID())
	}
}
