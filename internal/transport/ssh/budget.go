package ssh

import (
	"context"
	"time"
)

const (
	// briskDials is how many dials go through one jump host at once.
	briskDials = 5
	// slowDials is how many more wait for a host behind it that does not answer.
	slowDials = 32
	// slowDial is when a dial counts as one that only waits. Otherwise five dead
	// hosts behind a jump host would keep a hundred living ones from being reached.
	slowDial = time.Second
)

// budget bounds the dials through one jump host.
type budget struct{ brisk, slow chan struct{} }

func newBudget() budget {
	return budget{brisk: make(chan struct{}, briskDials), slow: make(chan struct{}, slowDials)}
}

// enter waits for a place. leave gives it back.
func (b budget) enter(ctx context.Context) (leave func(), err error) {
	select {
	case b.brisk <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	done, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		b.hold(done)
	}()
	return func() {
		close(done)
		<-left
	}, nil
}

// hold keeps a brisk place, and a slow one instead once the dial has become one and there is any.
func (b budget) hold(done <-chan struct{}) {
	timer := time.NewTimer(slowDial)
	defer timer.Stop()
	select {
	case <-done:
		<-b.brisk
		return
	case <-timer.C:
	}
	select {
	case <-done:
		<-b.brisk
	case b.slow <- struct{}{}:
		<-b.brisk
		<-done
		<-b.slow
	}
}
