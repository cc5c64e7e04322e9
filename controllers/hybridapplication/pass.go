package hybridapplication

import (
	"context"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
	"github.com/isthmus-dev/isthmus/internal/objects/statuspatch"
)

// pass is what one visit to an application has read, decided and done.
type pass struct {
	app     *v1alpha1.HybridApplication
	key     types.NamespacedName
	as      objects.Identity
	setID   string
	patcher *statuspatch.Patcher
	graph   *graph.Graph

	// components by name, and values for expressions.
	components map[string]*component
	values     map[string]any
	unwatched  map[schema.GroupVersionKind]bool

	// pruning and leftovers describe what left the graph and is still there.
	pruning    []string
	pruneError error
	// transient is an error that trying again may cure.
	transient error
	// rows of status.components; nil leaves them as they are.
	rows []v1alpha1.ComponentStatus
	// gone is set when the finalizer was removed: there is no status to write.
	gone bool
	// summarized is set when the conditions say how the pass ended.
	summarized bool
	// before is the status as it was read, and happened what events are about.
	before   v1alpha1.HybridApplicationStatus
	happened []happening
}

// component is what is known of one component during a pass.
type component struct {
	node *graph.Node
	// live is the object as it is, nil if there is none.
	live *unstructured.Unstructured
	// problem is why it could not be read, or applied.
	problem error
	// desired is what was rendered, or why it could not be.
	desired     *unstructured.Unstructured
	hash        string
	renderError error
	// behindUnknown tells whether the state of one that it waits for, directly or not, cannot be known.
	behindUnknown bool
	verdict
}

// happening becomes an event.
type happening struct {
	kind, reason, action, note string
	related                    *unstructured.Unstructured
}

func newPass(app *v1alpha1.HybridApplication, patcher *statuspatch.Patcher) *pass {
	key := client.ObjectKeyFromObject(app)
	return &pass{
		app: app, key: key, setID: objects.SetID(key), patcher: patcher,
		as:         objects.Identity{Namespace: app.Namespace, Name: serviceAccountOf(app)},
		components: map[string]*component{},
		values:     map[string]any{},
		unwatched:  map[schema.GroupVersionKind]bool{},
		before:     *app.Status.DeepCopy(),
	}
}

// serviceAccountOf is the account that the application names. The API server
// fills in the default; an application stored before that had one counts too.
func serviceAccountOf(app *v1alpha1.HybridApplication) string {
	if app.Spec.ServiceAccountName == "" {
		return "default"
	}
	return app.Spec.ServiceAccountName
}

// refused is the first error that a person has to cure.
func (p *pass) refused() error {
	for _, node := range p.nodes() {
		if c := p.components[node.Name]; c != nil && objects.IsRefused(c.problem) {
			return c.problem
		}
	}
	if objects.IsRefused(p.pruneError) {
		return p.pruneError
	}
	return nil
}

func (p *pass) nodes() []*graph.Node {
	if p.graph == nil {
		return nil
	}
	return p.graph.Nodes
}

// retry remembers an error that trying again may cure.
func (p *pass) retry(err error) { p.transient = errors.Join(p.transient, err) }

func referenceOf(object graph.Object) objects.Reference {
	return objects.Reference{GroupVersionKind: object.GroupVersionKind, Namespace: object.Namespace, Name: object.Name}
}

// graphs remembers the graph of each application at its generation.
type graphs struct {
	mu    sync.Mutex
	known map[types.UID]compiledGraph
}

type compiledGraph struct {
	generation int64
	graph      *graph.Graph
}

func (g *graphs) get(app *v1alpha1.HybridApplication) *graph.Graph {
	g.mu.Lock()
	defer g.mu.Unlock()
	if known := g.known[app.UID]; known.generation == app.Generation {
		return known.graph
	}
	return nil
}

func (g *graphs) put(app *v1alpha1.HybridApplication, compiled *graph.Graph) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known = map[types.UID]compiledGraph{}
	}
	g.known[app.UID] = compiledGraph{generation: app.Generation, graph: compiled}
}

func (g *graphs) forget(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.known, uid)
}

// compile makes the graph, once for each generation. One with kinds that the
// cluster does not know is not kept, because they may become known.
func (r *Reconciler) compile(ctx context.Context, p *pass) error {
	if p.graph = r.compiled.get(p.app); p.graph != nil {
		return nil
	}
	compiled, err := graph.Compile(ctx, p.app, r.Schemas)
	if err != nil {
		return err
	}
	p.graph = compiled
	if len(compiled.Unchecked) == 0 {
		r.compiled.put(p.app, compiled)
	}
	return nil
}
