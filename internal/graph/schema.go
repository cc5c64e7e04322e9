package graph

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// ErrUnknownKind is what Schemas answer for a kind that the cluster does not know.
var ErrUnknownKind = errors.New("the cluster does not know this kind")

// Schemas knows the kinds of the cluster.
type Schemas interface {
	// Kind describes a kind. The error is ErrUnknownKind if there is none, and
	// any other if it could not be found out.
	Kind(ctx context.Context, gvk schema.GroupVersionKind) (*Kind, error)
}

// Kind is what the cluster says about a kind.
type Kind struct {
	// Namespaced tells whether its objects live in namespaces.
	Namespaced bool
	// Schema of its objects, with all references resolved; nil if the cluster has none.
	Schema *spec.Schema
}

// isOpen tells whether an object of that schema may have fields that it does not list.
func isOpen(s *spec.Schema) bool {
	if s == nil || preserves(s) || embedded(s) {
		return true
	}
	if s.AdditionalProperties != nil && (s.AdditionalProperties.Allows || s.AdditionalProperties.Schema != nil) {
		return true
	}
	return len(s.Properties) == 0
}

// fieldOf returns the schema of a field, and whether the object may have it.
// The schema is nil where anything may stand.
func fieldOf(s *spec.Schema, name string) (*spec.Schema, bool) {
	if s == nil {
		return nil, true
	}
	if property, ok := s.Properties[name]; ok {
		return &property, true
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		return s.AdditionalProperties.Schema, true
	}
	return nil, isOpen(s)
}

func itemsOf(s *spec.Schema) *spec.Schema {
	if s == nil || s.Items == nil {
		return nil
	}
	return s.Items.Schema
}

func propertyNames(s *spec.Schema) []string {
	if s == nil {
		return nil
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// typeOf is the JSON type that a schema asks for, or nothing if it takes several.
func typeOf(s *spec.Schema) string {
	if s == nil || len(s.Type) != 1 || intOrString(s) || len(s.OneOf) > 0 || len(s.AnyOf) > 0 && s.Type[0] == "" {
		return ""
	}
	return s.Type[0]
}

func preserves(s *spec.Schema) bool { return extension(s, "x-kubernetes-preserve-unknown-fields") }
func embedded(s *spec.Schema) bool  { return extension(s, "x-kubernetes-embedded-resource") }
func intOrString(s *spec.Schema) bool {
	return extension(s, "x-kubernetes-int-or-string") || s.Format == "int-or-string"
}

func extension(s *spec.Schema, name string) bool {
	value, _ := s.Extensions.GetBool(name)
	return value
}

// celTypes gives CEL the types of components out of their schemas, one field at
// a time: a type is named by the way to it, so that nothing is built that no
// expression asks for. It belongs to one compilation and is not safe for
// concurrent use.
type celTypes struct {
	schemas map[string]*spec.Schema
	// missed is the last field that was asked for and is not there.
	missed struct{ typeName, field string }
}

// componentsType, and the names that begin with it, are no identifiers on
// purpose: CEL would take components.db for the name of a type otherwise.
const componentsType = "#"

func newCELTypes() *celTypes { return &celTypes{schemas: map[string]*spec.Schema{}} }

// Has implements expression.Types.
func (c *celTypes) Has(typeName string) bool {
	_, known := c.schemas[typeName]
	return known || typeName == componentsType
}

// Field implements expression.Types.
func (c *celTypes) Field(typeName, field string) (*cel.Type, bool) {
	if typeName == componentsType {
		s, known := c.schemas[componentsType+field]
		if !known {
			return nil, false
		}
		return c.typed(componentsType+field, s), true
	}
	s, known := fieldOf(c.schemas[typeName], field)
	if !known {
		c.missed.typeName, c.missed.field = typeName, field
		return nil, false
	}
	return c.typed(typeName+"."+field, s), true
}

// declare makes a component known under its name. A nil schema takes any field.
func (c *celTypes) declare(component string, s *spec.Schema) {
	name := componentsType + component
	c.schemas[name] = s
	c.typed(name, s)
}

// typed maps a schema to the type that its JSON has in CEL. Times and
// quantities are strings, because expressions see objects as JSON. Numbers that
// are no integers may be either in JSON.
func (c *celTypes) typed(name string, s *spec.Schema) *cel.Type {
	switch typeOf(s) {
	case "string":
		return cel.StringType
	case "integer":
		return cel.IntType
	case "boolean":
		return cel.BoolType
	case "array":
		return cel.ListType(c.typed(name+"[]", itemsOf(s)))
	case "object":
		if len(s.Properties) > 0 {
			c.schemas[name] = s
			return cel.ObjectType(name)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			return cel.MapType(cel.StringType, c.typed(name+"{}", s.AdditionalProperties.Schema))
		}
	}
	return cel.DynType
}

// explainMissed names the place of the field that a failed check asked for,
// with a suggestion.
func (c *celTypes) explainMissed() string {
	if c.missed.field == "" {
		return ""
	}
	where := strings.TrimPrefix(c.missed.typeName, componentsType)
	return "; " + where + " has no such field" + didYouMean(c.missed.field, propertyNames(c.schemas[c.missed.typeName]))
}

// accepts tells whether a schema takes a value of that CEL type.
func accepts(s *spec.Schema, t *cel.Type) bool {
	switch typeOf(s) {
	case "string":
		return oneOfKinds(t, cel.StringKind, cel.BytesKind, cel.TimestampKind, cel.DurationKind)
	case "integer":
		return oneOfKinds(t, cel.IntKind, cel.UintKind)
	case "number":
		return oneOfKinds(t, cel.IntKind, cel.UintKind, cel.DoubleKind)
	case "boolean":
		return oneOfKinds(t, cel.BoolKind)
	case "array":
		return oneOfKinds(t, cel.ListKind)
	case "object":
		return oneOfKinds(t, cel.MapKind, cel.StructKind)
	default:
		return true
	}
}

// oneOfKinds also holds for types that are only known later.
func oneOfKinds(t *cel.Type, kinds ...cel.Kind) bool {
	return slices.Contains(append(kinds, cel.DynKind, cel.AnyKind, cel.OpaqueKind, cel.TypeParamKind, cel.NullTypeKind), t.Kind())
}

// nameOf is what messages call a type.
func nameOf(t *cel.Type) string {
	if t.Kind() == cel.StructKind || t.Kind() == cel.MapKind {
		return "an object"
	}
	return t.String()
}
