package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"

	"github.com/isthmus-dev/isthmus/internal/graph"
)

// schemaAge is for how long a kind is believed to be as it was: long enough
// that a burst of applications costs one look, short enough that an upgraded
// CustomResourceDefinition is seen soon.
const schemaAge = time.Minute

// Schemas answers graph.Schemas from the API server's OpenAPI, with the
// operator's own identity; every authenticated user may read it.
type Schemas struct {
	mapper   meta.RESTMapper
	resolver resolver.SchemaResolver
	clock    clock.PassiveClock

	mu    sync.Mutex
	kinds map[schema.GroupVersionKind]knownKind
}

type knownKind struct {
	kind *graph.Kind
	at   time.Time
}

// NewSchemas makes Schemas.
func NewSchemas(d discovery.DiscoveryInterface, mapper meta.RESTMapper, c clock.PassiveClock) *Schemas {
	return &Schemas{mapper: mapper, resolver: &resolver.ClientDiscoveryResolver{Discovery: d}, clock: c,
		kinds: map[schema.GroupVersionKind]knownKind{}}
}

// Kind implements graph.Schemas. Lookups are serial: they are rare, and a burst
// of applications of one kind costs one download.
func (s *Schemas) Kind(_ context.Context, gvk schema.GroupVersionKind) (*graph.Kind, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.kinds[gvk]; ok && s.clock.Since(known.at) < schemaAge {
		return known.kind, nil
	}
	kind, err := s.lookUp(gvk)
	if err != nil {
		delete(s.kinds, gvk)
		return nil, err
	}
	s.kinds[gvk] = knownKind{kind: kind, at: s.clock.Now()}
	return kind, nil
}

func (s *Schemas) lookUp(gvk schema.GroupVersionKind) (*graph.Kind, error) {
	mapping, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		return nil, graph.ErrUnknownKind
	}
	if err != nil {
		return nil, fmt.Errorf("look up kind %s: %w", gvk.Kind, err)
	}
	kind := &graph.Kind{Namespaced: mapping.Scope.Name() == meta.RESTScopeNameNamespace}
	kind.Schema, err = s.resolver.ResolveSchema(gvk)
	if err != nil && !errors.Is(err, resolver.ErrSchemaNotFound) {
		return nil, fmt.Errorf("read the schema of %s: %w", gvk.Kind, err)
	}
	return kind, nil
}
