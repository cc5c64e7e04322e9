package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/bench/operator"
	"github.com/isthmus-dev/isthmus/test/bench/sample"
	"github.com/isthmus-dev/isthmus/test/bench/target"
)

// deadHost measures how much one host that does not answer slows the others:
// pairs of passes over the others, one while the operator tries to reach the dead
// host and one while the dead host is suspended.
func (b *bench) deadHost(ctx context.Context) (err error) {
	if err := b.buildOperator(ctx); err != nil {
		return err
	}
	if !slices.Contains(b.sides, "isthmus") {
		return errors.New("this workload needs the side isthmus")
	}
	r, stop, err := b.rig(ctx, slices.Max(b.hosts)-1)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	if _, _, err := r.operator.First(ctx, r.bed.Hosts); err != nil {
		return err
	}
	for _, kind := range []struct {
		name string
		dig  func() (*hole, error)
	}{
		{"silent", digSilent}, {"dropped", digDropped},
	} {
		if err := r.beside(ctx, kind.name, kind.dig); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	return nil // all that was made ends with its control plane and its hosts
}

func (r *rig) beside(ctx context.Context, kind string, dig func() (*hole, error)) (err error) {
	hole, err := dig()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hole.Close()) }()
	dead := &target.Host{
		Name: "dead-" + kind, StateDir: "/nowhere", Address: "127.0.0.1", Port: hole.port, HostKey: r.bed.Hosts[0].HostKey,
	}
	if err := r.operator.Add(ctx, dead); err != nil {
		return err
	}
	var with, without, slowdown sample.Sample
	for i := range r.pairs {
		// Which comes first changes, so that a drift of the machine's speed falls on both.
		passes := []func() error{
			func() error { return r.passWith(ctx, &with, dead) },
			func() error { return r.passWithout(ctx, &without) },
		}
		if i%2 == 1 {
			slices.Reverse(passes)
		}
		for _, pass := range passes {
			if err := pass(); err != nil {
				return err
			}
		}
		slowdown = append(slowdown, with[i]/without[i])
	}
	result("deadhost."+kind, field{"hosts", len(r.bed.Hosts)}, field{"pairs", r.pairs},
		field{"wall_without_s", without.Median()}, field{"wall_with_s", with.Median()},
		field{"slowdown", with.Ratio(without)}, field{"slowdown_of_pairs", slowdown.Median()},
		field{"slowdown_min", slowdown.Min()}, field{"slowdown_max", slowdown.Max()})
	return nil
}

// passWith looks at the living hosts while the dead one is being tried.
func (r *rig) passWith(ctx context.Context, walls *sample.Sample, dead *target.Host) error {
	if err := r.operator.Suspend(ctx, dead, operator.Resumed); err != nil {
		return err
	}
	wall, _, err := r.operator.Requested(ctx, r.bed.Hosts, dead)
	*walls = append(*walls, wall.Seconds())
	if err != nil {
		return err
	}
	tried, err := r.operator.Tries(ctx, dead)
	if err == nil && !tried {
		err = errors.New("the operator did not try to reach the dead host")
	}
	return errors.Join(err, r.operator.Suspend(ctx, dead, operator.Suspended))
}

// passWithout looks at the living hosts alone.
func (r *rig) passWithout(ctx context.Context, walls *sample.Sample) error {
	wall, _, err := r.operator.Requested(ctx, r.bed.Hosts)
	*walls = append(*walls, wall.Seconds())
	return err
}

// hole is an address at which nobody answers.
type hole struct {
	port  int
	close func() error
}

// Close fills the hole.
func (h *hole) Close() error { return h.close() }

// digSilent accepts connections and never says a word.
func digSilent() (*hole, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var held []net.Conn
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			held = append(held, conn)
			mu.Unlock()
		}
	}()
	return &hole{port: listener.Addr().(*net.TCPAddr).Port, close: func() error {
		err := listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range held {
			err = errors.Join(err, conn.Close())
		}
		return err
	}}, nil
}

// digDropped is a port whose queue of connections is full: the kernel drops what
// comes, as a firewall would, and needs no rule of one.
func digDropped() (*hole, error) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	closers := []func() error{func() error { return syscall.Close(socket) }}
	h := &hole{close: func() error {
		var errs []error
		for _, closer := range closers {
			errs = append(errs, closer())
		}
		return errors.Join(errs...)
	}}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if err := syscall.Listen(socket, 0); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	address, err := syscall.Getsockname(socket)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.port = address.(*syscall.SockaddrInet4).Port
	for range 16 {
		conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", h.port), 300*time.Millisecond)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return h, nil
		}
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		closers = append(closers, conn.Close)
	}
	return nil, errors.Join(errors.New("the kernel does not drop connections to a full queue"), h.Close())
}
