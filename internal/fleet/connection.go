package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// grace is what a call gets beyond its deadline to come back by itself; after
// that it is left behind, so that no machine can hold a link up.
const grace = time.Second

// connection is a machine that is connected. It is closed once: at once when
// severed, or when retired and held by nobody. A nil connection is none.
type connection struct {
	work      *work
	machine   machine.Machine
	peer      Peer
	transport string

	mu      sync.Mutex
	holds   int
	retired bool
	closed  bool
}

func (c *connection) hold() *connection {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.holds++
	}
	return c
}

func (c *connection) release() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds--
	c.closeIf(c.retired && c.holds == 0)
}

// retire has the connection closed when the requests in flight are through.
func (c *connection) retire() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.closeIf(c.holds == 0)
}

// sever closes the connection under the requests in flight.
func (c *connection) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.closeIf(true)
}

func (c *connection) closeIf(now bool) {
	if !now || c.closed {
		return
	}
	c.closed = true
	// Closing may have to tell the other end, and the caller may hold a lock.
	c.work.finish(func() { closeQuietly(c.machine) })
}

// closeQuietly closes a machine of which nothing more is wanted, whatever comes of it.
func closeQuietly(m machine.Machine) {
	_, _ = defect.Guard(func() (none struct{}, _ error) { return none, m.Close() })
}

// connect makes a connection, within the dial budget.
func (p *look) connect() (*connection, error) {
	fleet := p.link.fleet
	var made machine.Machine
	err := fleet.dials.run(p.dialing, func() (err error) {
		began := time.Now()
		limit := timeout(p.endpoint.Spec)
		made, err = bounded(p.dialing, limit, func(ctx context.Context) (machine.Machine, error) {
			return fleet.options.Connect(ctx, p.endpoint)
		}, closeQuietly)
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			err = refine(err, &transport.UnreachableError{Address: p.endpoint.Spec.Address, Err: fmt.Errorf("no answer within %s", limit)})
		}
		countRequest(transportOf(p.endpoint.Spec), time.Since(began), err)
		return err
	})
	if err != nil {
		return nil, err
	}
	conn := &connection{work: &fleet.work, machine: made, transport: transportOf(p.endpoint.Spec), holds: 1}
	if introduced, ok := made.(Introduced); ok {
		conn.peer = introduced.Peer().plain()
	}
	if conn.peer.Address == "" {
		if address, err := netip.ParseAddr(p.endpoint.Spec.Address); err == nil {
			conn.peer.Address = address.String()
		}
	}
	return conn, nil
}

// request calls a connected machine. A call that outlives its time ends with
// its connection, whatever the machine makes of its context.
func request[T any](ctx context.Context, conn *connection, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
	began := time.Now()
	result, err := bounded(ctx, limit, func(ctx context.Context) (T, error) {
		defer context.AfterFunc(ctx, conn.sever)()
		return call(ctx)
	}, nil)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = refine(err, &transport.LostError{Doing: fmt.Sprintf("wait %s for an answer", limit), Err: err})
	}
	countRequest(conn.transport, time.Since(began), err)
	return result, err
}

// refine gives an error without a class the class that it should have.
func refine(err, classed error) error {
	if judge(err).known {
		return err
	}
	return classed
}

// bounded runs a call for at most limit and a grace, and turns a panic into an
// error. A result that comes later goes to late.
func bounded[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error), late func(T)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	type outcome struct {
		result T
		err    error
	}
	results := make(chan outcome) // unbuffered: a result is either taken or late
	abandoned := make(chan struct{})
	go func() {
		defer cancel()
		var o outcome
		o.result, o.err = defect.Guard(func() (T, error) { return call(ctx) })
		select {
		case results <- o:
		case <-abandoned:
			if o.err == nil && late != nil {
				late(o.result)
			}
		}
	}()
	select {
	case o := <-results:
		return o.result, o.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case o := <-results:
		return o.result, o.err
	case <-timer.C:
		close(abandoned)
		var none T
		return none, ctx.Err()
	}
}
