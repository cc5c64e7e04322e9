package graph

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/expression"
)

// fixedSchemas answers from a map and fails on demand.
type fixedSchemas struct {
	kinds map[schema.GroupVersionKind]*Kind
	err   error
}

func (f fixedSchemas) Kind(_ context.Context, gvk schema.GroupVersionKind) (*Kind, error) {
	if f.err != nil {
		return nil, f.err
	}
	kind, known := f.kinds[gvk]
	if !known {
		return nil, ErrUnknownKind
	}
	return kind, nil
}

const metadataSchema = `{type: object, properties: {name: {type: string}, namespace: {type: string},
  labels: {type: object, additionalProperties: {type: string}}, annotations: {type: object, additionalProperties: {type: string}}}}`

func parseSchema(t testing.TB, text string) *spec.Schema {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(strings.ReplaceAll(text, "$META", metadataSchema)))
	require.NoError(t, err)
	s := &spec.Schema{}
	require.NoError(t, json.Unmarshal(raw, s))
	return s
}

func schemas(t testing.TB) fixedSchemas {
	workload := &Kind{Namespaced: true, Schema: parseSchema(t, `
type: object
properties:
  apiVersion: {type: string}
  kind: {type: string}
  metadata: $META
  spec:
    type: object
    properties:
      replicas: {type: integer}
      ratio: {type: number}
      paused: {type: boolean}
      port: {x-kubernetes-int-or-string: true}
      anything: {type: object, x-kubernetes-preserve-unknown-fields: true}
      args: {type: array, items: {type: string}}
      template: {type: object, properties: {metadata: $META}}
      env: {type: array, items: {type: object, properties: {name: {type: string}, value: {type: string}}}}
  status:
    type: object
    properties:
      readyReplicas: {type: integer}
      conditions: {type: array, items: {type: object, properties: {type: {type: string}, status: {type: string}}}}
`)}
	external := &Kind{Namespaced: true, Schema: parseSchema(t, `
type: object
properties:
  apiVersion: {type: string}
  kind: {type: string}
  metadata: $META
  spec:
    type: object
    properties:
      hostRef: {type: object, properties: {name: {type: string}}}
      files: {type: array, items: {type: object, properties: {path: {type: string}, content: {type: string}}}}
      outputs: {type: array, items: {type: object, properties: {name: {type: string}, value: {type: string}}}}
  status:
    type: object
    properties: {outputs: {type: object, additionalProperties: {type: string}}}
`)}
	return fixedSchemas{kinds: map[schema.GroupVersionKind]*Kind{
		{Group: "apps", Version: "v1", Kind: "Workload"}: workload,
		{Version: "v1", Kind: "Zone"}:                    {Schema: parseSchema(t, `{type: object, properties: {apiVersion: {type: string}, kind: {type: string}, metadata: $META}}`)},
		ExternalKind:                                     external,
	}}
}

// application reads components from YAML.
func application(t testing.TB, text string) *v1alpha1.HybridApplication {
	t.Helper()
	app := &v1alpha1.HybridApplication{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "ns"}}
	require.NoError(t, yaml.Unmarshal([]byte(text), &app.Spec))
	return app
}

const good = `
components:
- name: gateway
  dependsOn: [seed]
  readyWhen: ["self.status.readyReplicas >= self.spec.replicas"]
  manifest:
    apiVersion: apps/v1
    kind: Workload
    metadata: {name: gw, labels: {app: gw}}
    spec:
      replicas: "${components.my-db.status.outputs.n == '3' ? 3 : 1}"
      port: "${components.my-db.status.outputs.port}"
      args: ["plain", "$${HOME}", "db=${components['my-db'].status.outputs.url}"]
      anything: {whatever: "${components.seed.metadata.name}"}
- name: my-db
  external: {hostRef: {name: db-host}, files: [{path: /etc/x, content: "a"}]}
- name: seed
  manifest: {apiVersion: apps/v1, kind: Workload, spec: {replicas: 1}}
- name: zone
  manifest: {apiVersion: v1, kind: Zone}
- name: other
  ref: {apiVersion: apps/v1, kind: Workload, name: elsewhere}
outputs: {url: "http://${components.my-db.status.outputs.url}", ready: "${components.other.status.readyReplicas}"}
`

func TestCompile(t *testing.T) {
	g, err := Compile(t.Context(), application(t, good), schemas(t))
	require.NoError(t, err)
	require.Empty(t, g.Unchecked)
	var order []string
	for _, n := range g.Nodes {
		order = append(order, n.Name)
	}
	require.Equal(t, []string{"my-db", "other", "seed", "zone", "gateway"}, order)
	gateway := g.Node("gateway")
	require.Equal(t, []string{"my-db", "seed"}, gateway.DependsOn)
	require.Equal(t, 1, gateway.Level)
	require.Equal(t, "gw", gateway.Object.Name)
	require.Equal(t, "shop-seed", g.Node("seed").Object.Name)
	require.Equal(t, "ns", g.Node("my-db").Object.Namespace)
	require.Empty(t, g.Node("zone").Object.Namespace)
	require.Equal(t, ReadOnly, g.Node("other").Access)
}

func TestRender(t *testing.T) {
	g, err := Compile(t.Context(), application(t, good), schemas(t))
	require.NoError(t, err)
	values := map[string]any{"seed": map[string]any{"metadata": map[string]any{"name": "s"}}}
	_, err = g.Render("gateway", values)
	require.True(t, expression.IsNotYetKnown(err), "%v", err)
	require.ErrorContains(t, err, "manifest.spec.")

	values["my-db"] = map[string]any{"status": map[string]any{"outputs": map[string]any{"n": "3", "port": "http", "url": "db:1"}}}
	first, err := g.Render("gateway", values)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"replicas": int64(3), "port": "http",
		"args": []any{"plain", "${HOME}", "db=db:1"}, "anything": map[string]any{"whatever": "s"}}, first["spec"])
	// What was rendered is the caller's: changing it must not change the graph.
	first["spec"].(map[string]any)["args"].([]any)[0] = "changed"
	second, err := g.Render("gateway", values)
	require.NoError(t, err)
	require.Equal(t, "plain", second["spec"].(map[string]any)["args"].([]any)[0])

	known, missing, err := g.Outputs(values)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"url": "http://db:1"}, known)
	require.Equal(t, []string{"ready"}, missing)
}

// Outputs of an external component speak of two worlds: what names a component
// is the application's, the rest is left to the ExternalService.
func TestOutputsOfExternalComponents(t *testing.T) {
	g, err := Compile(t.Context(), application(t, `
components:
- name: db
  external: {hostRef: {name: h}}
- name: web
  external:
    hostRef: {name: h}
    outputs: [{name: url, value: "http://${service.dnsName}:${service.ports.http}/${components.db.status.outputs.name}"}]
`), schemas(t))
	require.NoError(t, err)
	require.Equal(t, []string{"db"}, g.Node("web").DependsOn)
	rendered, err := g.Render("web", map[string]any{"db": map[string]any{"status": map[string]any{"outputs": map[string]any{"name": "orders"}}}})
	require.NoError(t, err)
	output := rendered["spec"].(map[string]any)["outputs"].([]any)[0].(map[string]any)
	require.Equal(t, "http://${service.dnsName}:${service.ports.http}/orders", output["value"])
}

func TestReadyWhen(t *testing.T) {
	g, err := Compile(t.Context(), application(t, good), schemas(t))
	require.NoError(t, err)
	node := g.Node("gateway")
	ready, waiting, err := node.ReadyWhen(map[string]any{"spec": map[string]any{"replicas": int64(2)}})
	require.NoError(t, err)
	require.False(t, ready)
	require.Contains(t, waiting, "readyReplicas")
	ready, _, err = node.ReadyWhen(map[string]any{"spec": map[string]any{"replicas": int64(2)}, "status": map[string]any{"readyReplicas": int64(2)}})
	require.NoError(t, err)
	require.True(t, ready)
}

func TestRejections(t *testing.T) {
	workload := func(body string) string {
		return "components: [{name: a, manifest: {apiVersion: apps/v1, kind: Workload, " + body + "}}, {name: db, external: {hostRef: {name: h}}}]"
	}
	cases := map[string]struct {
		spec   string
		reason string
		want   []string
		column int
	}{
		"cycle": {`components: [{name: a, dependsOn: [b], external: {}}, {name: b, dependsOn: [c], external: {}}, {name: c, external: {hostRef: {name: "${components.a.metadata.name}"}}}]`,
			v1alpha1.ReasonCycle, []string{"a → b → c → a"}, 0},
		"self by expression": {`components: [{name: a, external: {hostRef: {name: "x${components.a.metadata.name}"}}}]`,
			v1alpha1.ReasonCycle, []string{`component "a"`, "external.hostRef.name", "refers to itself"}, 4},
		"self by dependsOn":  {`components: [{name: a, dependsOn: [a], external: {}}]`, v1alpha1.ReasonCycle, []string{"dependsOn[0]", "itself"}, 0},
		"unknown dependsOn":  {`components: [{name: orders, external: {}}, {name: b, dependsOn: [order], external: {}}]`, v1alpha1.ReasonUnknownReference, []string{`did you mean "orders"`}, 0},
		"unknown component":  {workload(`spec: {args: ["x", "${components.bd.status.outputs.u}"]}`), v1alpha1.ReasonUnknownReference, []string{"manifest.spec.args[1]", `no component "bd"`, `did you mean "db"`}, 3},
		"unknown field":      {workload(`spec: {args: ["http://${components.db.statsu.outputs.u}"]}`), v1alpha1.ReasonUnknownReference, []string{"manifest.spec.args[0]", "statsu", `did you mean "status"`}, 23},
		"unknown deep field": {workload(`spec: {args: ["${string(components.c.status.readyReplica)}"]}}}, {name: c, manifest: {apiVersion: apps/v1, kind: Workload`), v1alpha1.ReasonUnknownReference, []string{"c.status has no such field", `"readyReplicas"`}, 29},
		"in a macro":         {workload(`spec: {args: ["${components.c.status.conditions.filter(x, x.typ == 'R')[0].type}"]}}}, {name: c, manifest: {apiVersion: apps/v1, kind: Workload`), v1alpha1.ReasonUnknownReference, []string{`did you mean "type"`}, 0},
		"bad expression":     {workload(`spec: {args: ["ab${components.db.}"]}`), v1alpha1.ReasonInvalidExpression, []string{`component "a"`, "manifest.spec.args[0]", "column 19", "Syntax error"}, 19},
		"shell variable":     {`components: [{name: a, external: {files: [{path: /x, content: "#!/bin/sh\necho ${HOME}"}]}}]`, v1alpha1.ReasonInvalidExpression, []string{"external.files[0].content", "line 2, column 8", "write $${"}, 8},
		"no end":             {workload(`spec: {args: ["${components"]}`), v1alpha1.ReasonInvalidExpression, []string{"no closing brace"}, 1},
		"type of expression": {workload(`spec: {replicas: "${components.db.status.outputs.n}"}`), v1alpha1.ReasonInvalidExpression, []string{"gives string", "takes integer"}, 0},
		"text into integer":  {workload(`spec: {replicas: "1${components.db.status.outputs.n}"}`), v1alpha1.ReasonInvalidExpression, []string{"gives string", "takes integer"}, 0},
		"whole components":   {workload(`spec: {args: ["${components.map(c, c)[0]}"]}`), v1alpha1.ReasonInvalidExpression, []string{"followed by the name"}, 3},
		"unknown in manifest": {workload(`spec: {replica: 1}`), v1alpha1.ReasonInvalidManifest,
			[]string{`component "a", manifest.spec.replica: Workload has no such field; did you mean "replicas"?`}, 0},
		"unknown in external": {`components: [{name: a, external: {hostRef: {namee: h}}}]`, v1alpha1.ReasonInvalidManifest, []string{`component "a", external.hostRef.namee`, `did you mean "name"?`}, 0},
		"type of literal":     {workload(`spec: {replicas: "three"}`), v1alpha1.ReasonInvalidManifest, []string{"it is a string, and the field takes integer"}, 0},
		"reserved label":      {workload(`metadata: {labels: {isthmus.dev/x: "1"}}`), v1alpha1.ReasonInvalidManifest, []string{`manifest.metadata.labels["isthmus.dev/x"]`, "reserved"}, 0},
		"reserved in template": {workload(`spec: {template: {metadata: {annotations: {isthmus.dev/x: "1"}}}}`), v1alpha1.ReasonInvalidManifest,
			[]string{`manifest.spec.template.metadata.annotations["isthmus.dev/x"]`}, 0},
		"reserved applyset":  {workload(`metadata: {labels: {applyset.kubernetes.io/part-of: x}}`), v1alpha1.ReasonInvalidManifest, []string{"reserved"}, 0},
		"managed by other":   {workload(`metadata: {labels: {app.kubernetes.io/managed-by: Helm}}`), v1alpha1.ReasonInvalidManifest, []string{"Isthmus sets this label"}, 0},
		"labels not a map":   {workload(`metadata: {labels: "${components.db.metadata.labels}"}`), v1alpha1.ReasonInvalidManifest, []string{"manifest.metadata.labels", "must be an object"}, 0},
		"other namespace":    {workload(`metadata: {namespace: kube-system}`), v1alpha1.ReasonInvalidManifest, []string{"manifest.metadata.namespace", `own namespace "ns"`, `"kube-system"`}, 0},
		"name by expression": {workload(`metadata: {name: "x-${components.db.metadata.name}"}`), v1alpha1.ReasonInvalidManifest, []string{"manifest.metadata.name", "identity"}, 0},
		"server's field":     {workload(`metadata: {uid: "1"}`), v1alpha1.ReasonInvalidManifest, []string{"manifest.metadata.uid"}, 0},
		"status":             {workload(`status: {readyReplicas: 1}`), v1alpha1.ReasonInvalidManifest, []string{"manifest.status"}, 0},
		"no kind":            {`components: [{name: a, manifest: {apiVersion: v1}}]`, v1alpha1.ReasonInvalidManifest, []string{"manifest.kind"}, 0},
		"same object":        {`components: [{name: a, manifest: {apiVersion: v1, kind: Zone, metadata: {name: z}}}, {name: b, manifest: {apiVersion: v1, kind: Zone, metadata: {name: z}}}]`, v1alpha1.ReasonInvalidManifest, []string{`same object as component "a"`}, 0},
		"readyWhen field":    {`components: [{name: a, readyWhen: ["self.status.output.x == ''"], external: {}}]`, v1alpha1.ReasonUnknownReference, []string{"readyWhen[0]", `did you mean "outputs"`}, 12},
		"readyWhen type":     {`components: [{name: a, readyWhen: ["self.kind"], external: {}}]`, v1alpha1.ReasonInvalidExpression, []string{"not true or false"}, 0},
		"readyWhen variable": {`components: [{name: a, readyWhen: ["slef.kind == ''"], external: {}}]`, v1alpha1.ReasonInvalidExpression, []string{"'slef'"}, 1},
		"output":             {`{components: [{name: a, external: {}}], outputs: {u: "${components.b.status}"}}`, v1alpha1.ReasonUnknownReference, []string{"outputs.u", `no component "b"`}, 3},
		"output structure":   {`{components: [{name: a, external: {}}], outputs: {u: "${components.a.status}"}}`, v1alpha1.ReasonInvalidExpression, []string{"outputs.u", "an output is"}, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(t.Context(), application(t, c.spec), schemas(t))
			var rejection *Rejection
			require.True(t, errors.As(err, &rejection), "%v", err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.Equal(t, c.reason, rejection.Reason(), err.Error())
			if c.column > 0 {
				require.Equal(t, c.column, rejection.Problems[0].Column, err.Error())
			}
		})
	}
}

func TestAllProblemsAreReportedInAStableOrder(t *testing.T) {
	app := application(t, `components: [{name: b, external: {x: 1}}, {name: a, external: {hostRef: {y: 1}, files: [{path: 5}]}}]`)
	_, first := Compile(t.Context(), app, schemas(t))
	require.Error(t, first)
	require.Len(t, first.(*Rejection).Problems, 3)
	for range 20 {
		_, again := Compile(t.Context(), app, schemas(t))
		require.Equal(t, first.Error(), again.Error())
	}
}

func TestUnknownKindsAreLeftUnchecked(t *testing.T) {
	g, err := Compile(t.Context(), application(t, `components: [{name: a, manifest: {apiVersion: new.io/v1, kind: Thing, spec: {x: "${components.b.status.outputs.o}"}}}, {name: b, external: {}}]`), schemas(t))
	require.NoError(t, err)
	require.Equal(t, []schema.GroupVersionKind{{Group: "new.io", Version: "v1", Kind: "Thing"}}, g.Unchecked)
	require.False(t, g.Node("a").Checked)
	require.Equal(t, []string{"b"}, g.Node("a").DependsOn)
}

func TestSchemasThatCannotBeHadAreNoRejection(t *testing.T) {
	_, err := Compile(t.Context(), application(t, good), fixedSchemas{err: errors.New("connection refused")})
	require.ErrorContains(t, err, "connection refused")
	var rejection *Rejection
	require.False(t, errors.As(err, &rejection))
}

// FuzzCompile holds that no manifest makes it panic, and that what compiles can be rendered.
func FuzzCompile(f *testing.F) {
	f.Add(`{"apiVersion":"apps/v1","kind":"Workload","spec":{"args":["${components.db.status.outputs.x}"]}}`)
	f.Add(`{"metadata":{"labels":{"a":1}},"spec":[]}`)
	f.Add(`[]`)
	f.Add(`{"apiVersion":"v1","kind":"Zone","metadata":null,"a":{"":[[null]]}}`)
	known := schemas(f)
	f.Fuzz(func(t *testing.T, manifest string) {
		app := &v1alpha1.HybridApplication{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "ns"}}
		app.Spec.Components = []v1alpha1.Component{
			{Name: "a", Manifest: &runtime.RawExtension{Raw: []byte(manifest)}},
			{Name: "db", External: &runtime.RawExtension{Raw: []byte(`{}`)}},
		}
		g, err := Compile(t.Context(), app, known)
		if err != nil {
			return
		}
		_, _ = g.Render("a", map[string]any{})
	})
}

func BenchmarkCompile(b *testing.B) {
	app, known := application(b, good), schemas(b)
	for b.Loop() {
		if _, err := Compile(b.Context(), app, known); err != nil {
			b.Fatal(err)
		}
	}
}
