package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// chaos is hosts with all the faults, some of which come and go by themselves.
type chaos struct {
	t       *testing.T
	hosts   []*fakeHost
	pool    *Pool
	good    *fakeHost
	bastion *fakeHost
	proxy   *halfOpen
	counts  sync.Map // by fault and outcome
}

// outcome is the class of an error.
func outcome(err error) string {
	var (
		trust       *transport.TrustError
		credentials *transport.CredentialsError
		unreachable *transport.UnreachableError
		lost        *transport.LostError
	)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &trust):
		return "trust"
	case errors.As(err, &credentials):
		return "credentials"
	case errors.As(err, &unreachable):
		return "unreachable"
	case errors.As(err, &lost):
		return "lost"
	default:
		return "without a class"
	}
}

// fault is one thing that goes wrong, and how it may look.
type fault struct {
	name    string
	allowed string // outcomes
	config  func() Config
	command string
	stdin   func(context.Context) io.Reader
}

// misbehave serves a command as its name says.
func misbehave(command string, s *fakeSession) {
	switch command {
	case "ok":
		_, _ = io.Copy(s, s)
		s.exit(0)
	case "drop":
		_ = s.conn.Close()
	case "close":
		_ = s.Close()
	case "background":
		_, _ = io.WriteString(s, "started")
		s.exit(0)
		stuck(command, s)
	case "endless":
		for {
			if _, err := s.Write(make([]byte, 16<<10)); err != nil {
				return
			}
		}
	case "exit and drop":
		s.exit(0)
		_ = s.conn.Close()
	default:
		stuck(command, s)
	}
}

func newChaos(t *testing.T) (*chaos, []fault) {
	c := &chaos{t: t, pool: NewPool()}
	host := func(change func(*fakeHost)) *fakeHost {
		h := newFakeHost(t, func(h *fakeHost) {
			h.handle = misbehave
			if change != nil {
				change(h)
			}
		})
		c.hosts = append(c.hosts, h)
		return h
	}
	c.good, c.bastion = host(nil), host(nil)
	to := func(h *fakeHost, changes ...func(*Config)) func() Config {
		return func() Config {
			config := h.dialConfig()
			config.DialTimeout = 500 * time.Millisecond
			config.KeepAliveInterval, config.KeepAliveTimeout = 200*time.Millisecond, 400*time.Millisecond
			for _, change := range changes {
				change(&config)
			}
			return config
		}
	}
	raw := func(serve func(net.Conn)) func() Config {
		config := rawHost(t, serve)
		config.DialTimeout = 150 * time.Millisecond
		return func() Config { return config }
	}
	jumped := func(c2 *Config) {
		jump := to(c.bastion)()
		jump.Version = "bastion"
		c2.Jump = &jump
	}
	c.proxy = newHalfOpen(t, c.good.listener.Addr().String())
	go c.unrest(t.Context())
	address := c.proxy.address()
	const any = "ok unreachable lost"
	faults := []fault{
		{"none", any, to(c.good), "ok", nil},
		{"connection dropped", "unreachable lost", to(c.good), "drop", nil},
		{"session closed", "unreachable lost", to(c.good), "close", nil},
		{"stuck", "unreachable lost", to(c.good), "stuck", nil},
		{"stuck with input", "unreachable lost", to(c.good), "stuck", func(ctx context.Context) io.Reader { return newBlocked(ctx, "x") }},
		{"endless output", "unreachable lost", to(c.good), "endless", nil},
		{"endless input", "unreachable lost", to(c.good), "stuck", func(context.Context) io.Reader { return endless{} }},
		{"exit and drop", any, to(c.good), "exit and drop", nil},
		{"background child", any, to(c.good), "background", nil},
		{"wrong password", "credentials unreachable", to(c.good, func(c *Config) { c.Password = "x" }), "ok", nil},
		{"wrong pin", "trust unreachable", to(c.good, func(c *Config) { c.HostKeys = []string{keyLine(newSigner(t).PublicKey())} }), "ok", nil},
		{"unpinned", "trust unreachable", to(c.good, func(c *Config) { c.HostKeys = nil }), "ok", nil},
		{"few sessions", any, to(host(func(h *fakeHost) { h.maxSessions = 1 })), "ok", nil},
		{"no session", "unreachable lost", to(host(func(h *fakeHost) { h.muteSessions.Store(true) })), "ok", nil},
		{"session not closed", any, to(host(func(h *fakeHost) { h.muteClose.Store(true) })), "ok", nil},
		{"keepalives not answered", any, to(host(func(h *fakeHost) { h.muteRequests.Store(true) })), "ok", nil},
		{"slow banner", any, to(host(func(h *fakeHost) { h.bannerDelay = 300 * time.Millisecond })), "ok", nil},
		{"silent", "unreachable", to(host(func(h *fakeHost) { h.silent = true }), func(c *Config) { c.DialTimeout = 100 * time.Millisecond }), "ok", nil},
		{"reset", "unreachable", raw(reset), "ok", nil},
		{"drip", "unreachable", raw(func(c net.Conn) { drip(c, 10*time.Millisecond) }), "ok", nil},
		{"flood", "unreachable", raw(func(c net.Conn) { flood(c, "Hi!\n") }), "ok", nil},
		{"half open", any, to(c.good, func(c *Config) { c.Address = address }), "ok", nil},
		{"through a jump host", any, to(c.good, jumped), "ok", nil},
		{"stuck behind a jump host", "unreachable lost", to(c.good, jumped), "stuck", nil},
		{"dropped behind a jump host", "unreachable lost", to(c.good, jumped), "drop", nil},
	}
	return c, faults
}

// unrest is what happens to hosts by itself: a jump host that loses its
// connections, and a path that is cut.
func (c *chaos) unrest(ctx context.Context) {
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(300 * time.Millisecond):
		}
		switch round % 8 {
		case 1:
			c.bastion.drop()
		case 2, 6:
			c.proxy.freeze()
		case 4, 0:
			c.proxy.thaw()
		}
	}
}

// meet lets one fault happen and checks what must hold whatever it is.
func (c *chaos) meet(f fault) {
	config := f.config()
	ctx, cancel := context.WithTimeout(context.Background(), 600*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := c.try(ctx, f, config)
	took := time.Since(began)
	got := outcome(err)
	counter, _ := c.counts.LoadOrStore(f.name+": "+got, new(atomic.Int32))
	counter.(*atomic.Int32).Add(1)
	if !strings.Contains(f.allowed, got) {
		c.t.Errorf("%s: %s: %v", f.name, got, err)
	}
	// The deadline and a second for the request, and for Close what a machine with two busy cores takes.
	if took > 600*time.Millisecond+drainTime+closeTime+2*time.Second {
		c.t.Errorf("%s: it took %v", f.name, took)
	}
	if err != nil && strings.Contains(err.Error(), "secret-word") {
		c.t.Errorf("%s: a secret in %v", f.name, err)
	}
}

func (c *chaos) try(ctx context.Context, f fault, config Config) error {
	client, err := c.pool.Dial(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	request := Request{Command: f.command, Stdin: strings.NewReader("hello"), MaxStdout: 1 << 10}
	if f.stdin != nil {
		request.Stdin = f.stdin(ctx)
	}
	result, err := client.Run(ctx, request)
	if err == nil && f.command == "ok" && string(result.Stdout) != "hello" {
		return fmt.Errorf("%q came back", result.Stdout)
	}
	return err
}

// TestThousandFaults: after a thousand faults, sixteen at a time, nothing is left
// here, and no session is left on a host.
func TestThousandFaults(t *testing.T) {
	c, faults := newChaos(t)
	var next atomic.Int32
	var workers sync.WaitGroup
	began := time.Now()
	for range 16 {
		workers.Go(func() {
			for i := next.Add(1); i <= 1000 && time.Since(began) < time.Minute; i = next.Add(1) {
				index := int(i) % len(faults) // Each at least some times.
				if i%2 == 0 {
					index = rand.IntN(len(faults))
				}
				c.meet(faults[index])
			}
		})
	}
	workers.Wait()
	t.Logf("%d faults in %v", min(next.Load(), 1000), time.Since(began))
	c.counts.Range(func(name, count any) bool {
		t.Logf("%4d %s", count.(*atomic.Int32).Load(), name)
		return true
	})
	c.pool.Close()
	requireJoined(t)
	c.proxy.cut() // Behind a cut path a host learns only from its own timeout that we have gone.
	for i, host := range c.hosts {
		require.Eventually(t, func() bool { return host.open.Load() == 0 }, 5*time.Second, 10*time.Millisecond, "sessions are left on host %d", i)
	}
	for _, host := range c.hosts {
		_ = host.listener.Close()
		host.drop()
	}
	require.Eventually(t, func() bool { return !anyRunning("golang.org/x/crypto/ssh.") }, 5*time.Second, 10*time.Millisecond,
		"of the library's goroutines, on both sides, none is left either")
	for _, name := range []string{"none: ok", "wrong password: credentials", "wrong pin: trust", "connection dropped: lost", "through a jump host: ok"} {
		_, happened := c.counts.Load(name)
		require.True(t, happened, name)
	}
	// All of them take half a minute on two busy cores; a machine that is slower yet still meets most.
	require.Greater(t, next.Load(), int32(600), "within a minute")
}
