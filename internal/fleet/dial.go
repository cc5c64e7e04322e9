package fleet

import (
	"context"
	"time"
)

// slowDial is how long a connection may take before it gives its place to another.
const slowDial = time.Second

// dials bounds the connections that are being made. A dial that hears nothing
// for a while only waits; it then moves to a second, larger budget, so that
// many dead hosts cannot keep the living ones waiting.
type dials struct {
	brisk, slow chan struct{}
}

func newDials(brisk, slow int) *dials {
	return &dials{brisk: make(chan struct{}, brisk), slow: make(chan struct{}, slow)}
}

// run waits for a place and calls dial while it holds one.
func (d *dials) run(ctx context.Context, dial func() error) error {
	select {
	case d.brisk <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done, released := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(released)
		d.hold(done)
	}()
	err := dial()
	close(done)
	<-released
	return err
}

// hold keeps a place until done is closed: a brisk one first, then a slow one if there is any.
func (d *dials) hold(done <-chan struct{}) {
	timer := time.NewTimer(slowDial)
	defer timer.Stop()
	select {
	case <-done:
		<-d.brisk
		return
	case <-timer.C:
	}
	select {
	case <-done:
		<-d.brisk
	case d.slow <- struct{}{}:
		<-d.brisk
		<-done
		<-d.slow
	}
}
