package ssh

import (
	"context"
	"sync"
)

// maxSessions stays below the ten that OpenSSH allows on one connection (MaxSessions).
const maxSessions = 8

// limiter bounds the sessions that are open at once. Its limit can only fall.
type limiter struct {
	mu      sync.Mutex
	limit   int
	used    int
	changed chan struct{} // closed and replaced whenever a place may have become free
}

func newLimiter(limit int) *limiter {
	return &limiter{limit: limit, changed: make(chan struct{})}
}

// acquire waits for a place, for ctx, or for the end of the connection. It
// returns the limit under which the place was given.
func (l *limiter) acquire(ctx context.Context, done <-chan struct{}) (limit int, err error) {
	for {
		l.mu.Lock()
		if l.used < l.limit {
			l.used++
			limit := l.limit
			l.mu.Unlock()
			return limit, nil
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-done:
			return 0, errClosed
		}
	}
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	close(l.changed)
	l.changed = make(chan struct{})
}

// halve follows a host that allows fewer sessions than limit. Several refusals
// under one limit say so once.
func (l *limiter) halve(limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == limit {
		l.limit = max(1, limit/2)
	}
}
