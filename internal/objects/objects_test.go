package objects

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	u := &unstructured.Unstructured{}
	require.NoError(t, utiljson.Unmarshal(raw, &u.Object)) // Whole numbers are int64, as from the API server.
	return u
}

var shop = types.NamespacedName{Namespace: "ns", Name: "shop"}

func TestContains(t *testing.T) {
	cases := map[string]struct {
		live, desired string
		want          bool
	}{
		"equal":              {`{a: {b: [1, x]}}`, `{a: {b: [1, x]}}`, true},
		"others add fields":  {`{a: {b: 1, c: 2}, d: 3}`, `{a: {b: 1}}`, true},
		"value differs":      {`{a: 1}`, `{a: 2}`, false},
		"type differs":       {`{a: "1"}`, `{a: 1}`, false},
		"missing":            {`{}`, `{a: 1}`, false},
		"others add items":   {`{a: [1, 2]}`, `{a: [1]}`, false},
		"item differs":       {`{a: [{b: 1, c: 1}]}`, `{a: [{b: 2}]}`, false},
		"item has more":      {`{a: [{b: 1, c: 1}]}`, `{a: [{b: 1}]}`, true},
		"null means nothing": {`{}`, `{a: null}`, true},
		"object for scalar":  {`{a: {b: 1}}`, `{a: 1}`, false},
		"scalar for object":  {`{a: 1}`, `{a: {}}`, false},
		"scalar for list":    {`{a: 1}`, `{a: []}`, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, Contains(object(t, c.live).Object, object(t, c.desired).Object))
		})
	}
}

func TestDesiredCarriesOurLabelsAndHashesTheSame(t *testing.T) {
	ref := Reference{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: "ns", Name: "a"}
	one := Desired(map[string]any{"data": map[string]any{"x": "1", "y": "2"}}, ref, SetID(shop))
	two := Desired(map[string]any{"data": map[string]any{"y": "2", "x": "1"}}, ref, SetID(shop))
	require.Equal(t, map[string]string{"app.kubernetes.io/managed-by": "isthmus", PartOfLabel: SetID(shop)}, one.GetLabels())
	first, err := Hash(one)
	require.NoError(t, err)
	second, err := Hash(two)
	require.NoError(t, err)
	require.Equal(t, first, second)
	unstructured.RemoveNestedField(two.Object, "data", "y")
	third, err := Hash(two)
	require.NoError(t, err)
	require.NotEqual(t, first, third)
	require.NotEqual(t, SetID(shop), SetID(types.NamespacedName{Namespace: "other", Name: "shop"}))
	require.LessOrEqual(t, len(SetID(shop)), 63, "it is the value of a label")
}

func TestOurs(t *testing.T) {
	plain := object(t, `{kind: ConfigMap, metadata: {name: a, uid: u1}}`)
	require.NoError(t, Ours(plain, "u1", SetID(shop)))
	require.True(t, IsNotOurs(Ours(plain, "", SetID(shop))))
	require.True(t, IsNotOurs(Ours(plain, "u2", SetID(shop))))
	labelled := object(t, `{kind: ConfigMap, metadata: {name: a, uid: u1, labels: {applyset.kubernetes.io/part-of: `+SetID(shop)+`}}}`)
	require.NoError(t, Ours(labelled, "", SetID(shop)))
	other := object(t, `{kind: ConfigMap, metadata: {name: a, labels: {applyset.kubernetes.io/part-of: x, app.kubernetes.io/managed-by: isthmus}}}`)
	require.ErrorContains(t, Ours(other, "", SetID(shop)), "managed by another application")
	helm := object(t, `{kind: ConfigMap, metadata: {name: a, labels: {app.kubernetes.io/managed-by: Helm}}}`)
	require.ErrorContains(t, Ours(helm, "", SetID(shop)), "ConfigMap a exists already and it is managed by Helm")
}

func TestExplainNamesWhoLacksWhat(t *testing.T) {
	as := Identity{Namespace: "ns", Name: "deployer"}
	ref := Reference{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: "ns", Name: "web"}
	refused := apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "web",
		errors.New(`User "system:serviceaccount:ns:deployer" cannot patch resource "deployments" in API group "apps" in the namespace "ns"`))
	err := explain(refused, as, "apply", ref)
	require.True(t, IsForbidden(err))
	require.True(t, IsRefused(err))
	require.EqualError(t, err, "ServiceAccount ns/deployer may not patch deployments.apps (Deployment web): bind a Role that allows it, and see that the account exists")

	impersonation := apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, "deployer",
		errors.New(`User "isthmus" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "ns"`))
	require.ErrorContains(t, explain(impersonation, as, "get", ref), "the operator may not impersonate ServiceAccount ns/deployer")

	quota := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("exceeded quota: small"))
	err = explain(quota, as, "apply", ref)
	require.False(t, IsForbidden(err), "admission refuses in the same code, and no permission helps")
	require.True(t, IsRefused(err))
	require.ErrorContains(t, err, "exceeded quota")

	require.False(t, IsRefused(explain(apierrors.NewTimeoutError("slow", 1), as, "get", ref)))
	require.NoError(t, explain(nil, as, "get", ref))
}

func TestReadinessOf(t *testing.T) {
	cases := map[string]struct {
		text string
		want Readiness
	}{
		"ConfigMap":             {`{apiVersion: v1, kind: ConfigMap}`, Ready},
		"new Deployment":        {`{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 1}}`, InProgress},
		"being deleted":         {`{apiVersion: v1, kind: ConfigMap, metadata: {deletionTimestamp: "2020-01-01T00:00:00Z"}}`, Terminating},
		"never visited":         {`{apiVersion: isthmus.dev/v1alpha1, kind: ExternalService, metadata: {generation: 1}, status: {observedGeneration: -1}}`, InProgress},
		"ready":                 {external("2", `{type: Ready, status: "True", reason: Succeeded}`), Ready},
		"ready for an old spec": {external("1", `{type: Ready, status: "True", reason: Succeeded}`), InProgress},
		"stalled":               {external("2", `{type: Ready, status: "False", reason: NotOurs}, {type: Stalled, status: "True", reason: NotOurs}`), Failed},
		"working":               {external("2", `{type: Ready, status: Unknown, reason: Applying}, {type: Reconciling, status: "True", reason: Applying}`), InProgress},
		"unreachable":           {external("2", `{type: Ready, status: Unknown, reason: HostUnreachable, message: gone}`), Unknown},
		"unreachable, retrying": {external("2", `{type: Ready, status: Unknown, reason: HostUnreachable}, {type: Reconciling, status: "True", reason: HostUnreachable}`), Unknown},
		"suspended":             {external("2", `{type: Ready, status: Unknown, reason: Suspended}`), Unknown},
		"somebody else's kind":  {`{apiVersion: example.com/v1, kind: Thing, status: {conditions: [{type: Ready, status: Unknown, reason: HostUnreachable}]}}`, InProgress},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, message := ReadinessOf(object(t, c.text))
			require.Equal(t, c.want, got, message)
			if got == Unknown {
				require.NotEmpty(t, message)
			}
		})
	}
}

func external(observed, conditions string) string {
	return `{apiVersion: isthmus.dev/v1alpha1, kind: ExternalService, metadata: {name: a, generation: 2}, status: {observedGeneration: ` + observed + `, conditions: [` + conditions + `]}}`
}

func TestIsOlder(t *testing.T) {
	require.False(t, isOlder("5", ""))
	require.False(t, isOlder("5", "5"))
	require.True(t, isOlder("9", "10"))
	require.False(t, isOlder("10", "9"))
	require.True(t, isOlder("10", Latest), "the API server is asked")
}

func TestClientsImpersonateWithoutGroups(t *testing.T) {
	c := newClients(&rest.Config{Host: "https://127.0.0.1:1", QPS: 5})
	one, err := c.as(Identity{Namespace: "a", Name: "x"})
	require.NoError(t, err)
	again, err := c.as(Identity{Namespace: "a", Name: "x"})
	require.NoError(t, err)
	require.Same(t, one, again)
	require.Empty(t, c.config.Impersonate.UserName, "the operator's own configuration stays as it is")
}
