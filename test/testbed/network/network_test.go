package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

func TestWithoutRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("the tests run as root")
	}
	if _, err := New(t.Context(), nil); !errors.Is(err, ErrNotRoot) {
		t.Errorf("without root: %v", err)
	}
}

// TestManyAtOnceDoNotCollide claims subnets side by side, as several processes would.
func TestManyAtOnceDoNotCollide(t *testing.T) {
	needRoot(t)
	const count = 8
	networks := make([]*Network, count)
	var group sync.WaitGroup
	for i := range count {
		j, _ := newJanitor(t)
		group.Go(func() {
			n, err := New(t.Context(), j)
			if err != nil {
				t.Error(err)
				return
			}
			networks[i] = n
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, a := range networks {
		for _, b := range networks[:i] {
			if a.Prefix().Overlaps(b.Prefix()) || a.Bridge() == b.Bridge() {
				t.Errorf("%s %s and %s %s", a.Bridge(), a.Prefix(), b.Bridge(), b.Prefix())
			}
		}
	}
}

func TestSubnetWithARouteIsPassedOver(t *testing.T) {
	j := needRoot(t)
	first, err := New(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	// The lowest number that is free next; a route takes it away.
	second, err := New(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	taken := second.Prefix()
	if _, err := ip(t.Context(), "link", "delete", second.Bridge()); err != nil {
		t.Fatal(err)
	}
	within := netip.PrefixFrom(taken.Addr(), 26)
	if _, err := ip(t.Context(), "route", "add", within.String(), "dev", first.Bridge()); err != nil {
		t.Fatal(err)
	}
	third, err := New(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if third.Prefix() == taken {
		t.Errorf("%s was given out in spite of a route to %s", taken, within)
	}
}

func TestNextGivesEachAddressOnce(t *testing.T) {
	n := &Network{number: 7, next: firstHost}
	var mu sync.Mutex
	var group sync.WaitGroup
	seen := map[netip.Addr]bool{}
	for range 253 {
		group.Go(func() {
			addr := n.Next()
			mu.Lock()
			defer mu.Unlock()
			if seen[addr] || !n.Prefix().Contains(addr) || addr == n.Address() {
				t.Errorf("%s was given out before, or is not a machine's", addr)
			}
			seen[addr] = true
		})
	}
	group.Wait()
	if addr := n.Next(); addr.IsValid() {
		t.Errorf("a 254th address: %s", addr)
	}
}

// TestNamespace serves from inside a namespace and cuts it off.
func TestNamespace(t *testing.T) {
	j := needRoot(t)
	ctx := t.Context()
	n, err := New(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ns, err := n.Namespace(ctx, "server")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a namespace in %v", time.Since(start))
	out, err := ns.Command(ctx, "ip", "-4", "-brief", "address", "show", "dev", "eth0").Output()
	if err != nil || !strings.Contains(string(out), ns.Address().String()+"/24") {
		t.Errorf("eth0 is %q (%v)", out, err)
	}
	server := echoInside(t, ns)
	open := dial(t, server)
	echo(t, open, 5*time.Second)

	if err := n.Cut(ctx, ns.Address()); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.DialTimeout("tcp", server, 4*time.Second); err == nil {
		conn.Close() //nolint:errcheck // it should not exist
		t.Error("a machine that is cut off was reached")
	} else if !os.IsTimeout(err) {
		t.Errorf("a machine that is cut off is not silent: %v", err)
	}
	if err := tryEcho(open, time.Second); !os.IsTimeout(err) {
		t.Errorf("an open connection of a machine that is cut off: %v", err)
	}
	if err := n.Heal(ctx, ns.Address()); err != nil {
		t.Fatal(err)
	}
	echo(t, dial(t, server), 5*time.Second)
	// What was sent during the cut is sent again and answered now.
	_ = open.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Errorf("the open connection does not recover: %v", err)
	}
	if err := n.Cut(ctx, netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Error("an address of another network was cut off")
	}
}

// TestRouteVia reaches an address behind one namespace from another one.
func TestRouteVia(t *testing.T) {
	j := needRoot(t)
	ctx := t.Context()
	n, err := New(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	router, err := n.Namespace(ctx, "router")
	if err != nil {
		t.Fatal(err)
	}
	client, err := n.Namespace(ctx, "client")
	if err != nil {
		t.Fatal(err)
	}
	pod := netip.MustParseAddr("10.214.77.5")
	if err := router.Command(ctx, "ip", "address", "add", pod.String()+"/32", "dev", "lo").Run(); err != nil {
		t.Fatal(err)
	}
	if err := n.RouteVia(ctx, netip.MustParsePrefix("10.214.77.0/24"), router.Address()); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(echoInside(t, router))
	if err != nil {
		t.Fatal(err)
	}
	target := net.JoinHostPort(pod.String(), port)
	echo(t, dial(t, target), 5*time.Second)
	err = client.Do(func() error {
		conn, err := net.DialTimeout("tcp", target, 5*time.Second)
		if err == nil {
			err = errors.Join(tryEcho(conn, 5*time.Second), conn.Close())
		}
		return err
	})
	if err != nil {
		t.Errorf("from another machine: %v", err)
	}
	// A cut holds for the addresses behind a machine, too.
	if err := n.Cut(ctx, router.Address()); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", target, time.Second); !os.IsTimeout(err) {
		t.Errorf("behind a machine that is cut off: %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	needRoot(t)
	j, closeNow := newJanitor(t)
	ctx := context.Background()
	n, err := New(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := n.Namespace(ctx, "left")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Cut(ctx, ns.Address()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	closeNow()
	t.Logf("undone in %v", time.Since(start))
	for _, argv := range [][]string{{"ip", "-oneline", "link"}, {"ip", "netns"}, {"ip", "-4", "route"}, {"nft", "list", "tables"}} {
		out, err := run(ctx, nil, argv...)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, n.ID()) {
				t.Errorf("left behind: %s", line)
			}
		}
	}
}

func needRoot(t *testing.T) *janitor.Janitor {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal(ErrNotRoot)
		}
		t.Skip(ErrNotRoot)
	}
	j, _ := newJanitor(t)
	return j
}

func newJanitor(t *testing.T) (*janitor.Janitor, func()) {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	closeNow := func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(closeNow)
	return j, closeNow
}

// echoInside listens in the namespace, on all its addresses, and answers each byte.
func echoInside(t *testing.T, ns *Namespace) string {
	t.Helper()
	var listener net.Listener
	err := ns.Do(func() (err error) {
		listener, err = net.Listen("tcp4", "0.0.0.0:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // all was written
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(ns.Address().String(), port)
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func echo(t *testing.T, conn net.Conn, within time.Duration) {
	t.Helper()
	if err := tryEcho(conn, within); err != nil {
		t.Fatal(err)
	}
}

func tryEcho(conn net.Conn, within time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// TestDoBringsItsThreadBack: a thread that stays in a namespace, above all the
// first of the process, would be ended with the namespace.
func TestDoBringsItsThreadBack(t *testing.T) {
	j := needRoot(t)
	n, err := New(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := n.Namespace(t.Context(), "visited")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if err := ns.Do(func() error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, thread := range threads {
		if where, err := os.Readlink(thread); err == nil && where != home {
			t.Errorf("%s is %s, want %s", thread, where, home)
		}
	}
}
