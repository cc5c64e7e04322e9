package objects

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var (
	deployments = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	configMaps  = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	deployer    = Identity{Namespace: "ns", Name: "deployer"}
)

// deaf is a Cluster whose API server does not answer: its watches only exist.
func deaf(t *testing.T) (*Cluster, *[]types.NamespacedName) {
	t.Helper()
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(deployments, meta.RESTScopeNamespace)
	mapper.Add(configMaps, meta.RESTScopeNamespace)
	c := NewCluster(&rest.Config{Host: "http://127.0.0.1:1"}, mapper)
	t.Cleanup(c.Stop)
	told := &[]types.NamespacedName{}
	c.OnChange(func(application types.NamespacedName) { *told = append(*told, application) })
	return c, told
}

func wanted(kind schema.GroupVersionKind, name string) Wanted {
	return Wanted{Reference: Reference{GroupVersionKind: kind, Namespace: "ns", Name: name}}
}

func foreign(kind schema.GroupVersionKind, name string) Wanted {
	w := wanted(kind, name)
	w.Foreign = true
	return w
}

func TestWatchesAreSharedAndEndWithTheLastThatNeedsThem(t *testing.T) {
	c, _ := deaf(t)
	one, two := types.NamespacedName{Namespace: "ns", Name: "one"}, types.NamespacedName{Namespace: "ns", Name: "two"}
	watch := func(app types.NamespacedName, as Identity, all ...Wanted) {
		t.Helper()
		unwatched, err := c.Watch(app, as, all)
		require.NoError(t, err)
		require.Empty(t, unwatched)
	}
	watch(one, deployer, wanted(deployments, "a"), wanted(deployments, "b"), wanted(configMaps, "c"))
	require.Len(t, c.streams, 2, "one for each kind")
	watch(two, deployer, wanted(deployments, "x"), foreign(configMaps, "theirs"))
	require.Len(t, c.streams, 3, "kinds are shared, a single object is not")
	watch(two, Identity{Namespace: "ns", Name: "other"}, wanted(deployments, "x"))
	require.Len(t, c.streams, 3, "another account has its own, and what it no longer wants has ended")
	watch(one, deployer, wanted(configMaps, "c"))
	require.Len(t, c.streams, 2)
	c.Forget(one)
	require.Len(t, c.streams, 1)
	c.Forget(one)
	c.Forget(two)
	require.Empty(t, c.streams)
	require.Empty(t, c.owners)
}

func TestKindsThatAreNotKnownAreNotWatched(t *testing.T) {
	c, _ := deaf(t)
	thing := schema.GroupVersionKind{Group: "new.io", Version: "v1", Kind: "Thing"}
	unwatched, err := c.Watch(shop, deployer, []Wanted{wanted(thing, "a"), wanted(configMaps, "b")})
	require.NoError(t, err)
	require.Equal(t, []schema.GroupVersionKind{thing}, unwatched)
	require.Len(t, c.streams, 1)
}

func TestWhoIsTold(t *testing.T) {
	c, told := deaf(t)
	other := types.NamespacedName{Namespace: "ns", Name: "other"}
	for _, app := range []types.NamespacedName{shop, other} {
		_, err := c.Watch(app, deployer, []Wanted{wanted(configMaps, "a"), foreign(configMaps, "theirs")})
		require.NoError(t, err)
	}
	members := keyFor(deployer, wanted(configMaps, "a"))
	single := keyFor(deployer, foreign(configMaps, "theirs"))
	ours := object(t, `{kind: ConfigMap, metadata: {name: a, labels: {applyset.kubernetes.io/part-of: `+SetID(shop)+`}}}`)
	stripped := object(t, `{kind: ConfigMap, metadata: {name: a}}`)

	expect := func(want ...types.NamespacedName) {
		t.Helper()
		require.ElementsMatch(t, want, *told)
		*told = nil
	}
	c.changed(c.streams[members], members, ours)
	expect(shop)
	c.changed(c.streams[members], members, cache.DeletedFinalStateUnknown{Key: "ns/a", Obj: ours})
	expect(shop)
	c.updated(c.streams[members], members, ours, stripped)
	expect(shop)
	c.changed(c.streams[members], members, stripped)
	expect()
	c.changed(c.streams[single], single, stripped)
	expect(shop, other)
	c.markForbidden(c.streams[members])
	expect(shop, other)
	c.markForbidden(c.streams[members])
	expect()
}

func TestAForbiddenWatchIsNotBelieved(t *testing.T) {
	c, _ := deaf(t)
	_, err := c.Watch(shop, deployer, []Wanted{wanted(configMaps, "a")})
	require.NoError(t, err)
	s := c.streams[keyFor(deployer, wanted(configMaps, "a"))]
	c.markForbidden(s)
	unwatched, err := c.Watch(shop, deployer, []Wanted{wanted(configMaps, "a")})
	require.NoError(t, err)
	require.Equal(t, []schema.GroupVersionKind{configMaps}, unwatched)
	_, err = s.received(object(t, `{kind: ConfigMap, metadata: {name: a}}`))
	require.NoError(t, err)
	unwatched, err = c.Watch(shop, deployer, []Wanted{wanted(configMaps, "a")})
	require.NoError(t, err)
	require.Empty(t, unwatched)
}

func TestAWatchAsksForOurObjectsOnly(t *testing.T) {
	options := &metav1.ListOptions{}
	keyFor(deployer, wanted(configMaps, "a")).selector(options)
	require.Equal(t, "app.kubernetes.io/managed-by=isthmus,"+PartOfLabel, options.LabelSelector)
	require.Empty(t, options.FieldSelector)
	options = &metav1.ListOptions{}
	keyFor(deployer, foreign(configMaps, "theirs")).selector(options)
	require.Equal(t, "metadata.name=theirs", options.FieldSelector)
	require.Empty(t, options.LabelSelector)
}
