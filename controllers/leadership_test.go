package controllers

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// record is a lock whose record can be set.
type record struct {
	resourcelock.Interface
	holder string
}

func (r *record) Identity() string { return "us" }

func (r *record) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: r.holder}, nil, nil
}

func (r *record) Update(_ context.Context, written resourcelock.LeaderElectionRecord) error {
	r.holder = written.HolderIdentity
	return nil
}

// TestALeaderEndsOnceAnotherHoldsTheLease covers what the election does: it waits
// for a Lease that another process has, takes it, and meets somebody else in it.
func TestALeaderEndsOnceAnotherHoldsTheLease(t *testing.T) {
	lease := &record{holder: "before us"}
	lock := watchLock(lease)
	read := func() {
		_, _, err := lock.Get(t.Context())
		require.NoError(t, err)
	}

	read()
	assert.NoError(t, ended(t, lock), "who has not led is not deposed by the holder that it waits for")
	require.NoError(t, lock.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "us"}))
	read()
	assert.NoError(t, ended(t, lock), "it leads")
	lease.holder = ""
	read()
	assert.NoError(t, ended(t, lock), "a Lease that nobody holds may still become ours")
	lease.holder = "after us"
	read()
	read()
	assert.ErrorIs(t, ended(t, lock), errDeposed)
}

// ended is what Start returns: an error that is there already, or nil at the end of its context.
func ended(t *testing.T, lock *deposed) error {
	t.Helper()
	select {
	case <-lock.found:
		return lock.Start(t.Context())
	default:
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return lock.Start(ctx)
	}
}
