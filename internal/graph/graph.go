package graph

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-dev/isthmus/internal/expression"
)

// Graph is an application that can be carried out.
type Graph struct {
	// Nodes in topological order.
	Nodes []*Node
	// Unchecked lists the kinds that the cluster does not know (yet): their
	// components could not be checked, and Compile must be called again.
	Unchecked []schema.GroupVersionKind

	byName  map[string]*Node
	outputs []output
}

// Access says what may be done to the object of a component.
type Access string

// The kinds of access.
const (
	// Managed objects are applied and removed.
	Managed Access = "Managed"
	// ReadOnly objects are read and never written.
	ReadOnly Access = "ReadOnly"
)

// Object is the identity of a component's object.
type Object struct {
	schema.GroupVersionKind
	// Namespace is empty for objects of the cluster.
	Namespace string
	Name      string
}

// String is what messages call it.
func (o Object) String() string { return o.Kind + " " + o.Name }

// Node is a component.
type Node struct {
	Name   string
	Object Object
	Access Access
	// Level is the length of the longest way to a component that depends on nothing.
	Level int
	// DependsOn lists all components that it waits for, sorted: those of its
	// expressions and those of spec.dependsOn.
	DependsOn []string
	// DeletionPolicy as declared.
	DeletionPolicy string
	// Checked tells whether the cluster knows the kind; if not, the component cannot be applied now.
	Checked bool

	readyWhen []expression.Expression
	// external tells a component written as external from a manifest of the same kind.
	external bool
	manifest map[string]any
	fields   []field
	kind     *Kind
}

// field is a place in a manifest that has a template.
type field struct {
	path     path
	template expression.Template
}

// output is one of spec.outputs.
type output struct {
	name     string
	template expression.Template
}

// Node returns the component of that name, or nil.
func (g *Graph) Node(name string) *Node { return g.byName[name] }

// evaluation is shared by all graphs: it remembers what it compiled by text.
var evaluation = sync.OnceValues(func() (*expression.Environment, error) {
	return expression.NewEnvironment(expression.Components)
})

// readiness evaluates readyWhen.
var readiness = sync.OnceValues(func() (*expression.Environment, error) {
	return expression.NewEnvironment("self")
})

// Render gives the manifest of a component with the values filled in. values
// holds the objects of the components that are there, by name. The error
// is expression.IsNotYetKnown if a value that it needs is not there.
func (g *Graph) Render(name string, values map[string]any) (map[string]any, error) {
	node := g.byName[name]
	if node == nil {
		return nil, fmt.Errorf("render component %q: there is none of that name", name)
	}
	env, err := evaluation()
	if err != nil {
		return nil, err
	}
	rendered := runtime.DeepCopyJSON(node.manifest)
	vars := map[string]any{expression.Components: values}
	for _, f := range node.fields {
		value, err := f.template.Evaluate(env, vars)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", node.fieldName(f.path), err)
		}
		f.path.set(rendered, value)
	}
	return rendered, nil
}

// Outputs evaluates the outputs that can be known. missing lists, sorted, the
// names of those that cannot yet.
func (g *Graph) Outputs(values map[string]any) (known map[string]string, missing []string, err error) {
	env, err := evaluation()
	if err != nil {
		return nil, nil, err
	}
	known = map[string]string{}
	vars := map[string]any{expression.Components: values}
	for _, o := range g.outputs {
		value, err := o.template.Evaluate(env, vars)
		switch {
		case expression.IsNotYetKnown(err):
			missing = append(missing, o.name)
		case err != nil:
			return nil, nil, fmt.Errorf("outputs.%s: %w", o.name, err)
		default:
			known[o.name] = fmt.Sprint(value)
		}
	}
	return known, missing, nil
}

// HasReadyWhen tells whether the component says itself when it is ready.
func (n *Node) HasReadyWhen() bool { return len(n.readyWhen) > 0 }

// ReadyWhen evaluates the component's readyWhen over its object. waitingFor is
// the first expression that does not hold yet.
func (n *Node) ReadyWhen(object map[string]any) (ready bool, waitingFor string, err error) {
	env, err := readiness()
	if err != nil {
		return false, "", err
	}
	for i, x := range n.readyWhen {
		holds, err := env.Holds(x, map[string]any{"self": object})
		if err != nil && !expression.IsNotYetKnown(err) {
			return false, "", fmt.Errorf("readyWhen[%d]: %w", i, err)
		}
		if !holds {
			return false, x.Text, nil
		}
	}
	return true, "", nil
}
