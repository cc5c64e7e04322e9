package statuspatch

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
)

// setUp returns an application as read, a client, and what was sent through it.
func setUp(t *testing.T) (*v1alpha1.HybridApplication, client.Client, *[]string) {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	app := &v1alpha1.HybridApplication{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n"}}
	sent := &[]string{}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(app).WithStatusSubresource(app).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			body, _ := p.Data(o)
			*sent = append(*sent, string(body))
			return c.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			body, _ := p.Data(o)
			*sent = append(*sent, sub+" "+string(body))
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}).Build()
	read := &v1alpha1.HybridApplication{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(app), read))
	return read, c, sent
}

func TestAPassThatChangesNothingSendsNothing(t *testing.T) {
	app, c, sent := setUp(t)
	p := New(c, app)
	app.Status.Outputs = map[string]string{}
	changed, err := p.Patch(t.Context(), app)
	require.NoError(t, err)
	require.False(t, changed)
	require.Empty(t, *sent)
}

func TestEachWriteCarriesWhatDiffersFromTheLast(t *testing.T) {
	app, c, sent := setUp(t)
	p := New(c, app)
	app.Status.ReadyComponents = "0/1"
	require.NoError(t, p.AddFinalizer(t.Context(), app, v1alpha1.Finalizer))
	require.Equal(t, "0/1", app.Status.ReadyComponents, "the finalizer's answer must not undo what the pass wrote")
	require.Len(t, *sent, 1)
	require.NotContains(t, (*sent)[0], "0/1")
	require.NoError(t, p.AddFinalizer(t.Context(), app, v1alpha1.Finalizer))
	require.Len(t, *sent, 1)

	changed, err := p.Patch(t.Context(), app)
	require.NoError(t, err)
	require.True(t, changed)
	condition.Ready(&app.Status.Conditions, 1, v1alpha1.ReasonSucceeded, "done")
	_, err = p.Patch(t.Context(), app)
	require.NoError(t, err)
	require.Len(t, *sent, 3)
	require.Contains(t, (*sent)[2], "status ")
	require.NotContains(t, (*sent)[2], "0/1")
	require.NotContains(t, (*sent)[2], `"spec"`)
	_, err = p.Patch(t.Context(), app)
	require.NoError(t, err)
	require.Len(t, *sent, 3)
}

func TestAStaleReadNeverWins(t *testing.T) {
	app, c, _ := setUp(t)
	stale := app.DeepCopy()
	first := New(c, app)
	app.Status.ReadyComponents = "1/1"
	_, err := first.Patch(t.Context(), app)
	require.NoError(t, err)

	second := New(c, stale)
	stale.Status.ReadyComponents = "0/1"
	_, err = second.Patch(t.Context(), stale)
	require.True(t, IsStale(err), "%v", err)
	require.True(t, IsStale(second.AddFinalizer(t.Context(), stale, v1alpha1.Finalizer)))
}

func TestRemovingTheFinalizerOfWhatIsGoneIsNoError(t *testing.T) {
	app, c, _ := setUp(t)
	p := New(c, app)
	require.NoError(t, p.AddFinalizer(t.Context(), app, v1alpha1.Finalizer))
	other := app.DeepCopy()
	other.Finalizers = nil
	require.NoError(t, c.Update(t.Context(), other))
	require.NoError(t, c.Delete(t.Context(), other))
	require.NoError(t, p.RemoveFinalizer(t.Context(), app, v1alpha1.Finalizer))
}
