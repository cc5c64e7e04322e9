package leader

import (
	"context"
	"fmt"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// EpochAnnotation of the Lease holds the epoch that was drawn last.
const EpochAnnotation = v1alpha1.Prefix + "epoch"

// NotLeaderError says that somebody else holds the Lease.
type NotLeaderError struct {
	Lease  types.NamespacedName
	Holder string
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("lease %s is held by %q and not by this process", e.Lease, e.Holder)
}

// Epoch draws a new epoch for the leadership of holder, its identity in the
// election. An empty holder stands for an operator that runs without election:
// then the Lease is made if it is not there, and nobody is asked for.
// The caller keeps the epoch as long as it leads. The client must read live.
func Epoch(ctx context.Context, c client.Client, lease types.NamespacedName, holder string) (int64, error) {
	var epoch int64
	err := retry.OnError(retry.DefaultBackoff, isRace, func() (err error) {
		epoch, err = draw(ctx, c, lease, holder, time.Now())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("draw an epoch: %w", err)
	}
	return epoch, nil
}

// isRace tells whether somebody else wrote the Lease meanwhile, as the election itself does every few seconds.
func isRace(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

func draw(ctx context.Context, c client.Client, key types.NamespacedName, holder string, now time.Time) (int64, error) {
	lease := &coordinationv1.Lease{}
	err := c.Get(ctx, key, lease)
	if apierrors.IsNotFound(err) && holder == "" {
		lease.Namespace, lease.Name = key.Namespace, key.Name
		epoch := now.Unix()
		lease.Annotations = map[string]string{EpochAnnotation: strconv.FormatInt(epoch, 10)}
		return epoch, c.Create(ctx, lease)
	}
	if err != nil {
		return 0, fmt.Errorf("read lease %s: %w", key, err)
	}
	if seen := lease.Spec.HolderIdentity; holder != "" && (seen == nil || *seen != holder) {
		refusal := &NotLeaderError{Lease: key}
		if seen != nil {
			refusal.Holder = *seen
		}
		return 0, refusal
	}
	epoch, err := next(lease.Annotations[EpochAnnotation], now)
	if err != nil {
		return 0, fmt.Errorf("lease %s: %w", key, err)
	}
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[EpochAnnotation] = strconv.FormatInt(epoch, 10)
	return epoch, c.Update(ctx, lease)
}

// next epoch after the one that is written down.
func next(written string, now time.Time) (int64, error) {
	if written == "" {
		return now.Unix(), nil
	}
	previous, err := strconv.ParseInt(written, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("annotation %s is not a number; correct or remove it: %w", EpochAnnotation, err)
	}
	return max(previous+1, now.Unix()), nil
}
