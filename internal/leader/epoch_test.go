package leader_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/isthmus-dev/isthmus/internal/leader"
)

var key = types.NamespacedName{Namespace: "isthmus-system", Name: "isthmus"}

func lease(holder, epoch string) *coordinationv1.Lease {
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	l.Spec.HolderIdentity = ptr.To(holder)
	if epoch != "" {
		l.Annotations = map[string]string{leader.EpochAnnotation: epoch}
	}
	return l
}

func TestEpochRises(t *testing.T) {
	c := fake.NewClientBuilder().WithObjects(lease("me", "")).Build()
	began := time.Now().Unix()
	first, err := leader.Epoch(t.Context(), c, key, "me")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, first, began)
	for range 5 { // within one second
		next, err := leader.Epoch(t.Context(), c, key, "me")
		require.NoError(t, err)
		assert.Greater(t, next, first)
		first = next
	}
	kept := &coordinationv1.Lease{}
	require.NoError(t, c.Get(t.Context(), key, kept))
	assert.Equal(t, "me", *kept.Spec.HolderIdentity, "the election's part is left alone")
}

func TestEpochRisesAboveOneFromTheFuture(t *testing.T) {
	c := fake.NewClientBuilder().WithObjects(lease("me", "99999999999")).Build()
	epoch, err := leader.Epoch(t.Context(), c, key, "me")
	require.NoError(t, err)
	assert.EqualValues(t, 100000000000, epoch)
}

func TestOnlyTheHolderDrawsAnEpoch(t *testing.T) {
	c := fake.NewClientBuilder().WithObjects(lease("successor", "5")).Build()
	_, err := leader.Epoch(t.Context(), c, key, "me")
	var other *leader.NotLeaderError
	require.ErrorAs(t, err, &other)
	assert.Equal(t, "successor", other.Holder)

	_, err = leader.Epoch(t.Context(), fake.NewClientBuilder().Build(), key, "me")
	assert.Error(t, err, "no lease, no leader")
}

func TestALeaderThatIsReplacedBetweenReadingAndWritingDrawsNone(t *testing.T) {
	var once sync.Once
	c := fake.NewClientBuilder().WithObjects(lease("me", "5")).WithInterceptorFuncs(interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			once.Do(func() {
				taken := &coordinationv1.Lease{}
				require.NoError(t, c.Get(ctx, key, taken))
				taken.Spec.HolderIdentity = ptr.To("successor")
				require.NoError(t, c.Update(ctx, taken))
			})
			return c.Update(ctx, object, options...)
		},
	}).Build()
	_, err := leader.Epoch(t.Context(), c, key, "me")
	var other *leader.NotLeaderError
	require.ErrorAs(t, err, &other)
}

func TestRenewalsOfTheLeaseAreNoObstacle(t *testing.T) {
	var renewals atomic.Int32
	c := fake.NewClientBuilder().WithObjects(lease("me", "5")).WithInterceptorFuncs(interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			if renewals.Add(1) <= 2 {
				renewed := &coordinationv1.Lease{}
				require.NoError(t, c.Get(ctx, key, renewed))
				renewed.Spec.RenewTime = ptr.To(metav1.NowMicro())
				require.NoError(t, c.Update(ctx, renewed))
			}
			return c.Update(ctx, object, options...)
		},
	}).Build()
	epoch, err := leader.Epoch(t.Context(), c, key, "me")
	require.NoError(t, err)
	assert.Greater(t, epoch, int64(5))
	assert.EqualValues(t, 3, renewals.Load())
}

func TestWithoutElectionEpochsAreStillUnique(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	var mu sync.Mutex
	seen := map[int64]bool{}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			epoch, err := leader.Epoch(context.Background(), c, key, "")
			mu.Lock()
			defer mu.Unlock()
			assert.NoError(t, err)
			assert.False(t, seen[epoch], "each leadership has its own")
			seen[epoch] = true
		})
	}
	group.Wait()
	assert.Len(t, seen, 3)
}

func TestAnAnnotationThatIsNoNumberIsNotGuessedAt(t *testing.T) {
	c := fake.NewClientBuilder().WithObjects(lease("me", "many")).Build()
	_, err := leader.Epoch(t.Context(), c, key, "me")
	assert.ErrorContains(t, err, "is not a number")
}
