package graph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// path leads to a place in a manifest: field names (string) and indexes (int).
type path []any

func (p path) with(step any) path { return append(slices.Clip(p), step) }

// String writes the path as users do: spec.containers[0].env, metadata.labels["a.b/c"].
func (p path) String() string {
	var out strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case int:
			out.WriteString("[" + strconv.Itoa(s) + "]")
		case string:
			switch {
			case strings.ContainsAny(s, ".[]/ "):
				fmt.Fprintf(&out, "[%q]", s)
			case out.Len() > 0:
				out.WriteString("." + s)
			default:
				out.WriteString(s)
			}
		}
	}
	return out.String()
}

// set puts a value at a place that exists in the manifest.
func (p path) set(manifest map[string]any, value any) {
	var at any = manifest
	for i, step := range p {
		last := i == len(p)-1
		switch s := step.(type) {
		case string:
			object := at.(map[string]any)
			if last {
				object[s] = value
				return
			}
			at = object[s]
		case int:
			list := at.([]any)
			if last {
				list[s] = value
				return
			}
			at = list[s]
		}
	}
}

// fieldName is how users find the place in the component as they wrote it.
func (n *Node) fieldName(p path) string {
	if n.Access == ReadOnly {
		return "ref"
	}
	if n.external && len(p) > 0 && p[0] == "spec" {
		return strings.TrimSuffix("external."+strings.TrimPrefix(p[1:].String(), "."), ".")
	}
	return strings.TrimSuffix("manifest."+p.String(), ".")
}
