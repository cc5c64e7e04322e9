package graph

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/expression"
)

// ExternalKind is what an external component is an object of.
var ExternalKind = v1alpha1.GroupVersion.WithKind("ExternalService")

// serverFields are written by the API server; in a manifest they are leftovers
// of a copied object, and applying them would fail or mean something else.
var serverFields = []string{"uid", "resourceVersion", "generation", "managedFields", "creationTimestamp",
	"generateName", "selfLink", "deletionTimestamp"}

// readSource decodes what the component describes and finds its identity.
func (c *compilation) readSource(node *Node, component *v1alpha1.Component) {
	switch {
	case component.Ref != nil:
		node.Access = ReadOnly
		node.Object = Object{
			GroupVersionKind: schema.FromAPIVersionAndKind(component.Ref.APIVersion, component.Ref.Kind),
			Namespace:        c.app.Namespace, Name: component.Ref.Name,
		}
	case component.External != nil:
		node.Access, node.external = Managed, true
		c.readExternal(node, component.External.Raw)
	case component.Manifest != nil:
		node.Access = Managed
		c.readManifest(node, component.Manifest.Raw)
	default:
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "", "one of manifest, external and ref must be set")
	}
}

func (c *compilation) readExternal(node *Node, raw []byte) {
	node.Object = Object{GroupVersionKind: ExternalKind, Namespace: c.app.Namespace, Name: c.defaultName(node)}
	body, ok := c.decode(node, "external", raw)
	if !ok {
		return
	}
	node.manifest = map[string]any{
		"apiVersion": ExternalKind.GroupVersion().String(),
		"kind":       ExternalKind.Kind,
		"metadata":   map[string]any{"name": node.Object.Name, "namespace": node.Object.Namespace},
		"spec":       body,
	}
}

func (c *compilation) readManifest(node *Node, raw []byte) {
	manifest, ok := c.decode(node, "manifest", raw)
	if !ok {
		return
	}
	apiVersion := c.identity(node, manifest, "manifest.apiVersion", "apiVersion")
	kind := c.identity(node, manifest, "manifest.kind", "kind")
	if apiVersion == "" || kind == "" {
		return
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "manifest.apiVersion", "%s", err)
		return
	}
	metadata, ok := c.objectAt(node, manifest, "metadata", "manifest.metadata")
	if !ok {
		return
	}
	node.Object = Object{GroupVersionKind: gv.WithKind(kind), Namespace: c.namespace(node, metadata), Name: c.name(node, metadata)}
	c.checkMetadata(node, metadata)
	if _, set := manifest["status"]; set {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "manifest.status", "status is written by controllers and cannot be declared; remove it")
	}
	metadata["name"] = node.Object.Name
	node.manifest = manifest
}

func (c *compilation) decode(node *Node, field string, raw []byte) (map[string]any, bool) {
	var body map[string]any
	if err := utiljson.Unmarshal(raw, &body); err != nil {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, field, "it is not an object: %s", err)
		return nil, false
	}
	if body == nil {
		body = map[string]any{}
	}
	return body, true
}

// identity reads a string that must be there and must not be an expression.
func (c *compilation) identity(node *Node, object map[string]any, field, key string) string {
	value, _ := object[key].(string)
	switch {
	case value == "":
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, field, "it must be set, to a string")
	case strings.Contains(value, "${"):
		c.refuseExpression(node, field)
		return ""
	}
	return value
}

func (c *compilation) refuseExpression(node *Node, field string) {
	c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, field, "the identity of an object cannot be an expression")
}

func (c *compilation) objectAt(node *Node, parent map[string]any, key, field string) (map[string]any, bool) {
	value, set := parent[key]
	if !set || value == nil {
		object := map[string]any{}
		parent[key] = object
		return object, true
	}
	object, ok := value.(map[string]any)
	if !ok {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, field, "it must be an object, not %s", jsonType(value))
	}
	return object, ok
}

func (c *compilation) defaultName(node *Node) string { return c.app.Name + "-" + node.Name }

func (c *compilation) name(node *Node, metadata map[string]any) string {
	if _, set := metadata["name"]; !set {
		return c.defaultName(node)
	}
	return c.identity(node, metadata, "manifest.metadata.name", "name")
}

// namespace is the application's own; v1alpha1 applications do not reach into others.
func (c *compilation) namespace(node *Node, metadata map[string]any) string {
	if _, set := metadata["namespace"]; !set {
		return c.app.Namespace
	}
	namespace := c.identity(node, metadata, "manifest.metadata.namespace", "namespace")
	if namespace != "" && namespace != c.app.Namespace {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "manifest.metadata.namespace",
			"an application can only have objects in its own namespace %q, not in %q", c.app.Namespace, namespace)
	}
	return c.app.Namespace
}

func (c *compilation) checkMetadata(node *Node, metadata map[string]any) {
	for _, name := range serverFields {
		if _, set := metadata[name]; set {
			c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "manifest.metadata."+name, "it is written by the API server and cannot be declared; remove it")
		}
	}
	for _, name := range []string{"labels", "annotations"} {
		if _, ok := c.objectAt(node, metadata, name, "manifest.metadata."+name); ok && len(metadata[name].(map[string]any)) == 0 {
			delete(metadata, name)
		}
	}
	labels, _ := metadata["labels"].(map[string]any)
	if value, set := labels[v1alpha1.ManagedByLabel]; set && value != v1alpha1.ManagedByValue {
		c.problems.add(v1alpha1.ReasonInvalidManifest, node.Name, "manifest."+path{"metadata", "labels", v1alpha1.ManagedByLabel}.String(),
			"Isthmus sets this label to %q; remove it", v1alpha1.ManagedByValue)
	}
}

// reservedPrefixes are labels and annotations that only Isthmus writes.
var reservedPrefixes = []string{v1alpha1.Prefix, "applyset.kubernetes.io/"}

// manifestWalk goes through a manifest beside its schema.
type manifestWalk struct {
	*compilation
	node *Node
}

func (w *manifestWalk) value(value any, s *spec.Schema, at path) {
	switch v := value.(type) {
	case map[string]any:
		w.object(v, s, at)
	case []any:
		w.requireType(s, at, "array", value)
		for i, item := range v {
			w.value(item, itemsOf(s), at.with(i))
		}
	case string:
		w.text(v, s, at)
	case bool:
		w.requireType(s, at, "boolean", value)
	case int64:
		w.requireType(s, at, "integer", value)
	case float64:
		w.requireType(s, at, "number", value)
	}
}

func (w *manifestWalk) object(object map[string]any, s *spec.Schema, at path) {
	if !w.requireType(s, at, "object", object) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		here := at.with(name)
		w.checkReserved(name, at, here)
		field, known := fieldOf(s, name)
		if !known {
			w.problems.add(v1alpha1.ReasonInvalidManifest, w.node.Name, w.node.fieldName(here),
				"%s has no such field%s", w.node.Object.Kind, didYouMean(name, propertyNames(s)))
			continue
		}
		w.value(object[name], field, here)
	}
}

// checkReserved also finds the labels of templates inside, such as those of Pods.
func (w *manifestWalk) checkReserved(name string, parent, here path) {
	if len(parent) < 2 || parent[len(parent)-2] != "metadata" {
		return
	}
	if last := parent[len(parent)-1]; last != "labels" && last != "annotations" {
		return
	}
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			w.problems.add(v1alpha1.ReasonInvalidManifest, w.node.Name, w.node.fieldName(here), "the prefix %s is reserved", prefix)
		}
	}
}

// text keeps a template if the string has expressions, or is not what it gives.
func (w *manifestWalk) text(text string, s *spec.Schema, at path) {
	if !strings.Contains(text, "${") {
		w.requireType(s, at, "string", text)
		return
	}
	name := w.node.fieldName(at)
	template, err := expression.Parse(text)
	if err != nil {
		w.problems.addExpression(v1alpha1.ReasonInvalidExpression, w.node.Name, name, err)
		return
	}
	if w.node.external && isOutput(at) {
		template = template.Leave(w.isOfTheService)
	}
	w.node.fields = append(w.node.fields, field{path: slices.Clone(at), template: template})
	result := w.checkTemplate(w.node.Name, name, template)
	if result != nil && !accepts(s, result) {
		w.problems.add(v1alpha1.ReasonInvalidExpression, w.node.Name, name, "the expression gives %s, and the field takes %s", nameOf(result), typeOf(s))
	}
}

// isOutput tells whether a field is the value of an output of an external
// component. There are expressions of two kinds in it: those over components,
// for the application, and those over what the ExternalService itself knows.
func isOutput(at path) bool {
	return len(at) == 4 && at[0] == "spec" && at[1] == "outputs" && at[3] == "value"
}

// isOfTheService tells whether an expression names no component. What does not
// parse is kept, and so reported here, before anything is applied.
func (w *manifestWalk) isOfTheService(x expression.Expression) bool {
	references, err := w.components.References(x)
	return err == nil && len(references) == 0
}

// requireType compares a literal with what the field takes.
func (w *manifestWalk) requireType(s *spec.Schema, at path, has string, value any) bool {
	takes := typeOf(s)
	if takes == "" || takes == has || takes == "number" && has == "integer" {
		return true
	}
	if number, ok := value.(float64); ok && takes == "integer" && number == float64(int64(number)) {
		return true
	}
	w.problems.add(v1alpha1.ReasonInvalidManifest, w.node.Name, w.node.fieldName(at), "it is %s, and the field takes %s", jsonType(value), takes)
	return false
}

// jsonType names what a literal is, without showing it: it may be a secret.
func jsonType(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64, float64, json.Number:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("%T", value)
	}
}
