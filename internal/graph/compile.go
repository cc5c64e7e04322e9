package graph

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/expression"
)

// Compile makes a Graph of an application. The error is a *Rejection if the
// application cannot be carried out as written, and any other if the schemas
// could not be had.
func Compile(ctx context.Context, app *v1alpha1.HybridApplication, schemas Schemas) (*Graph, error) {
	c := &compilation{app: app, graph: &Graph{byName: map[string]*Node{}}, edges: map[string]map[string]bool{}}
	for i := range app.Spec.Components {
		c.addNode(&app.Spec.Components[i])
	}
	c.checkSameObject()
	if err := c.resolveKinds(ctx, schemas); err != nil {
		return nil, err
	}
	if err := c.declareTypes(); err != nil {
		return nil, err
	}
	for _, node := range c.sortedNodes() {
		c.checkNode(node)
	}
	c.addOutputs()
	c.order()
	if err := c.problems.rejection(); err != nil {
		return nil, err
	}
	return c.graph, nil
}

// compilation is one run of Compile.
type compilation struct {
	app      *v1alpha1.HybridApplication
	graph    *Graph
	problems problems
	// edges[a][b]: a waits for b.
	edges map[string]map[string]bool
	types *celTypes
	// components checks expressions over components.
	components *expression.Environment
}

func (c *compilation) addNode(component *v1alpha1.Component) {
	node := &Node{Name: component.Name, DeletionPolicy: component.DeletionPolicy}
	if c.graph.byName[node.Name] != nil {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "", "there are two components of this name")
		return
	}
	c.graph.byName[node.Name] = node
	c.edges[node.Name] = map[string]bool{}
	c.readSource(node, component)
	for i, text := range component.ReadyWhen {
		node.readyWhen = append(node.readyWhen, expression.Condition(text))
		if strings.TrimSpace(text) == "" {
			c.problems.add(v1alpha1.ReasonInvalidExpression, node.Name, fmt.Sprintf("readyWhen[%d]", i), "the expression is empty")
		}
	}
	for i, other := range component.DependsOn {
		c.addEdge(node.Name, other, fmt.Sprintf("dependsOn[%d]", i), nil)
	}
}

// addEdge makes one component wait for another. Names that do not exist are
// found in order, when all names are known.
func (c *compilation) addEdge(from, to, field string, at *expression.Error) {
	if from == to {
		c.edgeProblem(v1alpha1.ReasonCycle, from, field, at, "the component refers to itself")
		return
	}
	if !c.hasComponent(to) {
		c.edgeProblem(v1alpha1.ReasonUnknownReference, from, field, at,
			fmt.Sprintf("there is no component %q%s", to, didYouMean(to, c.componentNames())))
		return
	}
	if from != "" {
		c.edges[from][to] = true
	}
}

func (c *compilation) edgeProblem(reason, component, field string, at *expression.Error, message string) {
	if at == nil {
		c.problems.add(reason, component, field, "%s", message)
		return
	}
	located := *at
	located.Message = message
	c.problems.addExpression(reason, component, field, &located)
}

func (c *compilation) hasComponent(name string) bool {
	return slices.Contains(c.componentNames(), name)
}

func (c *compilation) componentNames() []string {
	names := make([]string, 0, len(c.app.Spec.Components))
	for i := range c.app.Spec.Components {
		names = append(names, c.app.Spec.Components[i].Name)
	}
	return names
}

func (c *compilation) sortedNodes() []*Node {
	return slices.SortedFunc(maps.Values(c.graph.byName), func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
}

// checkSameObject refuses two components that would fight over one object.
func (c *compilation) checkSameObject() {
	type key struct{ group, kind, namespace, name string }
	seen := map[key]string{}
	for _, node := range c.sortedNodes() {
		k := key{node.Object.Group, node.Object.Kind, node.Object.Namespace, node.Object.Name}
		if node.Access != Managed || k.kind == "" {
			continue
		}
		if first, taken := seen[k]; taken {
			c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "", "it describes the same object as component %q: %s", first, node.Object)
		}
		seen[k] = node.Name
	}
}

// resolveKinds asks the cluster for every kind, once.
func (c *compilation) resolveKinds(ctx context.Context, schemas Schemas) error {
	unknown := map[schema.GroupVersionKind]bool{}
	for _, node := range c.sortedNodes() {
		if node.Object.Kind == "" {
			continue
		}
		kind, err := schemas.Kind(ctx, node.Object.GroupVersionKind)
		switch {
		case errors.Is(err, ErrUnknownKind):
			unknown[node.Object.GroupVersionKind] = true
			continue
		case err != nil:
			return fmt.Errorf("look up kind %s: %w", node.Object.Kind, err)
		}
		node.kind, node.Checked = kind, true
		if !kind.Namespaced {
			node.Object.Namespace = ""
		}
	}
	c.graph.Unchecked = slices.SortedFunc(maps.Keys(unknown), func(a, b schema.GroupVersionKind) int {
		return strings.Compare(a.String(), b.String())
	})
	return nil
}

// declareTypes makes the types of all components known to expressions.
func (c *compilation) declareTypes() error {
	c.types = newCELTypes()
	for name, node := range c.graph.byName {
		if node.kind == nil {
			c.types.declare(name, nil)
			continue
		}
		c.types.declare(name, node.kind.Schema)
	}
	env, err := expression.NewTypedEnvironment(c.types, map[string]*cel.Type{expression.Components: cel.ObjectType(componentsType)})
	c.components = env
	return err
}

func (c *compilation) checkNode(node *Node) {
	if node.manifest != nil {
		walk := &manifestWalk{compilation: c, node: node}
		var root = node.kind
		if root == nil {
			root = &Kind{}
		}
		walk.value(node.manifest, root.Schema, nil)
	}
	c.checkReadyWhen(node)
}

// checkReadyWhen checks the expressions over self, which has the type of the component.
func (c *compilation) checkReadyWhen(node *Node) {
	if len(node.readyWhen) == 0 {
		return
	}
	self, _ := c.types.Field(componentsType, node.Name)
	env, err := expression.NewTypedEnvironment(c.types, map[string]*cel.Type{"self": self})
	if err != nil {
		c.problems.add(v1alpha1.ReasonInvalidExpression, node.Name, "readyWhen", "%s", err)
		return
	}
	for i, x := range node.readyWhen {
		name := fmt.Sprintf("readyWhen[%d]", i)
		t, err := c.check(env, x)
		switch {
		case err != nil:
			c.problems.addExpression(reasonOf(err), node.Name, name, err)
		case !oneOfKinds(t, cel.BoolKind):
			c.problems.add(v1alpha1.ReasonInvalidExpression, node.Name, name, "the expression gives %s, not true or false", nameOf(t))
		}
	}
}

// check compiles one expression; an unknown field is explained with a suggestion.
func (c *compilation) check(env *expression.Environment, x expression.Expression) (*cel.Type, error) {
	c.types.missed.field = ""
	t, err := env.Check(x)
	var at *expression.Error
	if !errors.As(err, &at) {
		return t, err
	}
	explained := *at
	explained.Message = strings.ReplaceAll(at.Message, componentsType, expression.Components+".")
	if strings.HasPrefix(at.Message, "undefined field") {
		explained.Message += c.types.explainMissed()
	}
	return nil, &explained
}

// reasonOf tells an unknown field from an expression that does not compile.
func reasonOf(err error) string {
	var at *expression.Error
	if errors.As(err, &at) && strings.HasPrefix(at.Message, "undefined field") {
		return v1alpha1.ReasonUnknownReference
	}
	return v1alpha1.ReasonInvalidExpression
}

// checkTemplate checks the expressions of a template, adds the edges that they
// make, and returns the type of its value; nil if something is wrong.
func (c *compilation) checkTemplate(component, field string, t expression.Template) *cel.Type {
	before := len(c.problems.all)
	result := cel.StringType
	for _, x := range t.Expressions() {
		references, err := c.components.References(x)
		if err != nil {
			c.problems.addExpression(v1alpha1.ReasonInvalidExpression, component, field, err)
			return nil
		}
		for _, r := range references {
			c.addEdge(component, r.Name, field, &r.At)
		}
		if len(c.problems.all) > before {
			return nil
		}
		found, err := c.check(c.components, x)
		if err != nil {
			c.problems.addExpression(reasonOf(err), component, field, err)
			return nil
		}
		if t.IsSingle() {
			result = found
		}
	}
	return result
}

func (c *compilation) addOutputs() {
	for _, name := range slices.Sorted(maps.Keys(c.app.Spec.Outputs)) {
		template, err := expression.Parse(c.app.Spec.Outputs[name])
		if err != nil {
			c.problems.addExpression(v1alpha1.ReasonInvalidExpression, "", "outputs."+name, err)
			continue
		}
		t := c.checkTemplate("", "outputs."+name, template)
		if t != nil && slices.Contains([]cel.Kind{cel.ListKind, cel.MapKind, cel.StructKind}, t.Kind()) {
			c.problems.add(v1alpha1.ReasonInvalidExpression, "", "outputs."+name, "the expression gives %s; an output is a string, number or bool", nameOf(t))
		}
		c.graph.outputs = append(c.graph.outputs, output{name: name, template: template})
	}
}

// order sorts the nodes by level and name, or finds the circle that prevents it.
func (c *compilation) order() {
	levels := map[string]int{}
	state := map[string]int{} // 1: on the way, 2: done
	var way []string
	var visit func(name string) bool
	visit = func(name string) bool {
		switch state[name] {
		case 1:
			circle := append(slices.Clone(way[slices.Index(way, name):]), name)
			c.problems.add(v1alpha1.ReasonCycle, "", "", "components wait for each other in a circle: %s", strings.Join(circle, " → "))
			return false
		case 2:
			return true
		}
		state[name] = 1
		way = append(way, name)
		for _, other := range slices.Sorted(maps.Keys(c.edges[name])) {
			if !visit(other) {
				return false
			}
			levels[name] = max(levels[name], levels[other]+1)
		}
		way = way[:len(way)-1]
		state[name] = 2
		return true
	}
	for _, node := range c.sortedNodes() {
		if !visit(node.Name) {
			return
		}
		node.DependsOn = slices.Sorted(maps.Keys(c.edges[node.Name]))
		c.graph.Nodes = append(c.graph.Nodes, node)
	}
	for _, node := range c.graph.Nodes {
		node.Level = levels[node.Name]
	}
	slices.SortFunc(c.graph.Nodes, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), strings.Compare(a.Name, b.Name))
	})
}
