package hybridapplication

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/expression"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	u := &unstructured.Unstructured{}
	require.NoError(t, utiljson.Unmarshal(raw, &u.Object)) // Whole numbers are int64, as from the API server.
	return u
}

// notYetKnown is what rendering gives while a value is missing.
func notYetKnown(t *testing.T) error {
	t.Helper()
	env, err := expression.NewEnvironment(expression.Components)
	require.NoError(t, err)
	_, err = env.Evaluate(expression.Condition("components.a.x"), map[string]any{expression.Components: map[string]any{}})
	require.True(t, expression.IsNotYetKnown(err))
	return err
}

func TestDecide(t *testing.T) {
	desired := object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: x, labels: {l: v}}, data: {k: v}}`)
	live := object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: x, resourceVersion: "7", labels: {l: v, theirs: too}}, data: {k: v}}`)
	drifted := object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: x, resourceVersion: "8", labels: {l: v}}, data: {k: other}}`)
	leaving := object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: x, deletionTimestamp: "2020-01-01T00:00:00Z"}}`)
	unreachable := object(t, `{apiVersion: isthmus.dev/v1alpha1, kind: ExternalService, metadata: {name: x, generation: 1},
		status: {observedGeneration: 1, conditions: [{type: Ready, status: Unknown, reason: HostUnreachable, message: no answer}]}}`)
	recorded := &v1alpha1.InventoryEntry{DesiredHash: "same", ResourceVersion: "7"}
	managed := &graph.Node{Name: "n", Access: graph.Managed, Checked: true, Object: graph.Object{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Name: "x"}}
	readOnly := &graph.Node{Name: "n", Access: graph.ReadOnly, Checked: true, Object: managed.Object}
	missing := notYetKnown(t)

	cases := map[string]struct {
		node     *graph.Node
		live     *unstructured.Unstructured
		entry    *v1alpha1.InventoryEntry
		hash     string
		problem  error
		render   error
		notReady []string
		behind   bool
		state    string
		apply    bool
	}{
		"absent, all ready":                     {node: managed, hash: "same", state: stateApplied, apply: true},
		"absent, blocked":                       {node: managed, hash: "same", notReady: []string{"db"}, state: stateWaiting},
		"absent, recorded, blocked":             {node: managed, hash: "same", entry: recorded, notReady: []string{"db"}, state: stateWaiting},
		"absent, value missing":                 {node: managed, render: missing, state: stateWaiting},
		"absent, expression fails":              {node: managed, render: errors.New("bad"), state: stateFailed},
		"as applied":                            {node: managed, live: live, entry: recorded, hash: "same", state: stateReady},
		"as applied, dependency not ready":      {node: managed, live: live, entry: recorded, hash: "same", notReady: []string{"db"}, state: stateReady},
		"changed by somebody":                   {node: managed, live: drifted, entry: recorded, hash: "same", state: stateReady, apply: true},
		"changed, dependency not ready":         {node: managed, live: drifted, entry: recorded, hash: "same", notReady: []string{"db"}, state: stateReady, apply: true},
		"changed, behind unknown":               {node: managed, live: drifted, entry: recorded, hash: "same", notReady: []string{"db"}, behind: true, state: stateWaiting},
		"edited":                                {node: managed, live: live, entry: recorded, hash: "other", state: stateReady, apply: true},
		"edited, dependency not ready":          {node: managed, live: live, entry: recorded, hash: "other", notReady: []string{"db"}, state: stateWaiting},
		"edited, behind unknown":                {node: managed, live: live, entry: recorded, hash: "other", notReady: []string{"db"}, behind: true, state: stateWaiting},
		"edited, value missing":                 {node: managed, live: live, entry: recorded, render: missing, state: stateWaiting},
		"there, not recorded":                   {node: managed, live: live, hash: "same", state: stateReady, apply: true},
		"recorded without hash (operator died)": {node: managed, live: live, entry: &v1alpha1.InventoryEntry{}, hash: "same", state: stateReady, apply: true},
		"no hash never equals no hash":          {node: managed, live: live, entry: &v1alpha1.InventoryEntry{}, hash: "", state: stateReady, apply: true},
		"somebody deletes it":                   {node: managed, live: leaving, entry: recorded, hash: "same", state: stateDeleting},
		"not ours":                              {node: managed, live: live, hash: "same", problem: &objects.NotOursError{}, state: stateFailed},
		"forbidden":                             {node: managed, problem: &objects.ForbiddenError{}, hash: "same", state: stateFailed},
		"cannot be read":                        {node: managed, problem: errors.New("timeout"), hash: "same", state: stateUnknown},
		"kind unknown":                          {node: &graph.Node{Access: graph.Managed}, state: stateWaiting},
		"host unreachable":                      {node: managed, live: unreachable, entry: recorded, hash: "same", state: stateUnknown, apply: true},
		"reference, absent":                     {node: readOnly, state: stateWaiting},
		"reference, there":                      {node: readOnly, live: live, state: stateReady},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := facts{entry: c.entry, notReady: c.notReady}
			f.component = component{node: c.node, live: c.live, problem: c.problem, desired: desired, hash: c.hash, renderError: c.render, behindUnknown: c.behind}
			got := decide(f)
			require.Equal(t, c.state, got.state, got.message)
			require.Equal(t, c.apply, got.apply)
			if c.state == stateWaiting {
				require.NotEmpty(t, got.message)
				require.Equal(t, c.notReady, got.blockedBy)
			}
		})
	}
}
