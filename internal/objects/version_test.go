package objects

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// TestAVersionThatIsNoLongerServed: the objects of the kind are there all the same, and
// what was recorded of them names the old version.
func TestAVersionThatIsNoLongerServed(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "n", "uid": "u"}}`))
	}))
	defer server.Close()
	kind := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{kind.GroupVersion()})
	mapper.Add(kind, meta.RESTScopeNamespace)
	cluster := NewCluster(&rest.Config{Host: server.URL}, mapper)

	kind.Version = "v1beta1"
	recorded, as := Reference{GroupVersionKind: kind, Namespace: "n", Name: "w"}, Identity{Namespace: "n", Name: "default"}
	_, err := cluster.Get(t.Context(), as, recorded, Latest)
	require.True(t, IsUnknownKind(err), "what is declared in a version is looked for in that one: %v", err)
	served, err := cluster.Served(recorded)
	require.NoError(t, err)
	live, err := cluster.Get(t.Context(), as, served, Latest)
	require.NoError(t, err)
	require.Equal(t, "u", string(live.GetUID()))
	require.NoError(t, cluster.Delete(t.Context(), as, served, live.GetUID()))
	path := "/apis/example.com/v1/namespaces/n/widgets/w"
	require.Equal(t, []string{"GET " + path, "DELETE " + path}, asked)

	recorded.Kind = "Gadget"
	_, err = cluster.Served(recorded)
	require.True(t, IsUnknownKind(err), "%v", err)
}
