package fleet_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

func goroutines() int { return runtime.NumGoroutine() }

func TestAddressPolicy(t *testing.T) {
	tests := map[string]string{ // address: range that it is refused for; empty: it is not
		"192.0.2.10": "", "10.1.2.3": "", "2001:db8::1": "", "fd12::1": "", "::ffff:192.0.2.10": "",
		"127.0.0.1": "loopback", "127.8.9.10": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
		"::127.0.0.1": "loopback", "64:ff9b::7f00:1": "loopback", "64:ff9b::c000:20a": "",
		"0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "::": "unspecified", "::ffff:0.0.0.0": "unspecified",
		"169.254.1.1": "link-local", "169.254.169.254": "link-local", "::ffff:169.254.169.254": "link-local",
		"2002:7f00:1::1": "loopback", "2002:c000:20a::1": "", "64:ff9b:1::7f00:1": "loopback", "64:ff9b:1:7f00:0:100::": "loopback",
		"64:ff9b:1:c000:2:a00::": "", "64:ff9b:1::c000:20a": "", "2001:0:c000:20a::80ff:fffe": "loopback", "2001:0:c000:20a::3fff:fdf5": "",
		"2002:a9fe:a9fe::1": "link-local", "::ffff:255.255.255.255": "multicast",
		"fe80::1": "link-local", "fe80::1%eth0": "link-local", "64:ff9b::a9fe:a9fe": "link-local",
		"fd00:ec2::254": "a metadata service", "100.100.100.200": "a metadata service", "168.63.129.16": "a metadata service",
		"224.0.0.1": "multicast", "ff02::1": "multicast", "255.255.255.255": "multicast",
	}
	policy := fleet.NewAddressPolicy(nil)
	for text, wanted := range tests {
		var refused *fleet.AddressError
		err := policy.Check(netip.MustParseAddr(text))
		if wanted == "" {
			assert.NoError(t, err, text)
			continue
		}
		if assert.ErrorAs(t, err, &refused, text) {
			assert.Equal(t, wanted, refused.Range, text)
		}
		assert.ErrorAs(t, policy.Control("tcp", net.JoinHostPort(text, "22"), nil), &refused, text)
	}
	allowed := fleet.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("fe80::/64")})
	assert.NoError(t, allowed.Check(netip.MustParseAddr("127.0.0.2")))
	assert.NoError(t, allowed.Check(netip.MustParseAddr("::ffff:127.0.0.2")))
	assert.NoError(t, allowed.Check(netip.MustParseAddr("fe80::1%eth0")))
	assert.Error(t, allowed.Check(netip.MustParseAddr("127.0.0.1")))
}

func TestTheClustersRangesAreRefused(t *testing.T) {
	policy := fleet.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("10.96.7.0/24"), netip.MustParsePrefix("::ffff:10.96.8.0/120")})
	copied := policy
	policy.RefuseCluster([]netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("::ffff:10.244.0.0/112"), netip.MustParsePrefix("fd44::/64")})
	for _, text := range []string{"10.96.0.1", "::ffff:10.96.0.1", "64:ff9b::a60:1", "2002:a60:1::", "::10.96.0.1", "10.244.3.4", "fd44::1"} {
		assert.ErrorContains(t, copied.Check(netip.MustParseAddr(text)), "is in the cluster's own Pod or Service range", text)
	}
	for _, text := range []string{"10.97.0.1", "10.96.7.1", "::ffff:10.96.7.1", "10.96.8.1", "64:ff9b::a60:701", "fd44:0:0:1::1"} {
		assert.NoError(t, copied.Check(netip.MustParseAddr(text)), text)
	}
	policy.RefuseCluster(nil)
	assert.NoError(t, copied.Check(netip.MustParseAddr("10.96.0.1")))
	assert.NoError(t, fleet.AddressPolicy{}.Check(netip.MustParseAddr("10.96.0.1")))
}

// TestANameThatChangesItsMind leads to an allowed address first, and to a refused one later.
func TestANameThatChangesItsMind(t *testing.T) {
	address := &atomic.Value{}
	address.Store(netip.MustParseAddr("127.0.0.2"))
	resolver := nameServer(t, func() netip.Addr { return address.Load().(netip.Addr) })
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	_, service, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	other, err := net.Listen("tcp", "127.0.0.3:"+service)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()

	policy := fleet.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")})
	h := start(t, func(o *fleet.Options) {
		dialer := policy.Dialer(0)
		dialer.Resolver = resolver
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(e.Spec.Address, service))
			if err != nil {
				return nil, err
			}
			_ = conn.Close()
			return still{}, nil
		}
	})
	h.Configure(hostKey, endpoint("rebinding.example"))
	h.eventually("connected", h.state(fleet.Connected))
	address.Store(netip.MustParseAddr("127.0.0.3"))
	e := endpoint("rebinding.example")
	e.Version = "new"
	h.Configure(hostKey, e)
	h.eventually("refused", h.state(fleet.AddressRefused))
	assert.Contains(t, h.status().Message, "127.0.0.3 is loopback")
	require.NoError(t, other.(*net.TCPListener).SetDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = other.Accept()
	assert.Error(t, err, "not one packet went there")
}

// nameServer answers each question with the address of the moment.
func nameServer(t *testing.T, answer func() netip.Addr) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(reply(buffer[:n], answer()), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// reply to one question: RFC 1035 section 4.1. One for anything but A is answered by nothing.
func reply(query []byte, address netip.Addr) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root, type and class
	message := append([]byte{}, query[:2]...)
	isA := query[end-3] == 1 && query[end-4] == 0
	message = append(message, 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	message = append(message, query[12:end]...)
	if isA {
		message[7] = 1
		message = append(message, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		message = append(message, address.AsSlice()...)
	}
	return message
}

func TestARefusedAddressStopsTheLink(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	h := start(t, func(o *fleet.Options) {
		dialer := fleet.NewAddressPolicy(nil).Dialer(0)
		o.Connect = func(ctx context.Context, _ fleet.Endpoint) (machine.Machine, error) {
			_, err := dialer.DialContext(ctx, "tcp", listener.Addr().String())
			return nil, err
		}
	})
	h.Configure(hostKey, endpoint("localhost"))
	h.eventually("refused", h.state(fleet.AddressRefused))
	assert.Contains(t, h.status().Message, "127.0.0.1 is loopback")
}

func port(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(text)
	require.NoError(t, err)
	return number
}

var local = fleet.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})

func TestProbesOverTheNetwork(t *testing.T) {
	var followed atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "deep=1" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/target", http.StatusFound) })
	mux.HandleFunc("/target", func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	at := port(t, plain.Listener.Addr().String())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	tests := []struct {
		name    string
		probe   fleet.Probe
		failure string // empty: healthy
	}{
		{"tcp", fleet.Probe{Scheme: "tcp", Port: at}, ""},
		{"tcp, nobody listens", fleet.Probe{Scheme: "tcp", Port: port(t, closed.Addr().String())}, "connection refused"},
		{"http with query", fleet.Probe{Scheme: "http", Port: at, Path: "/ok?deep=1"}, ""},
		{"http, status 503", fleet.Probe{Scheme: "http", Port: at, Path: "/broken"}, "GET /broken answered with status 503"},
		{"http, expected status", fleet.Probe{Scheme: "http", Port: at, Path: "/broken", ExpectStatus: 503}, ""},
		{"http, a redirect is an answer", fleet.Probe{Scheme: "http", Port: at, Path: "/moved"}, ""},
		{"http, endless body", fleet.Probe{Scheme: "http", Port: at, Path: "/endless"}, ""},
		{"https, not verified", fleet.Probe{Scheme: "https", Port: port(t, secure.Listener.Addr().String()), Path: "/ok?deep=1"}, ""},
		{"unknown scheme", fleet.Probe{Scheme: "udp", Port: at}, "not one of"},
	}
	h := start(t, func(o *fleet.Options) { o.Probe, o.Policy = nil, local })
	var probes []fleet.Probe
	for _, test := range tests {
		test.probe.Timeout = 5 * time.Second
		probes = append(probes, test.probe)
	}
	h.network.Attach("127.0.0.1", h.host)
	h.Configure(hostKey, endpoint("127.0.0.1"))
	h.Watch(hostKey, orders, fleet.Watch{Probes: probes})
	for i, test := range tests {
		h.eventually(test.name, func() bool { return h.View(hostKey, orders).Probes[probes[i]].Known })
		state := h.View(hostKey, orders).Probes[probes[i]]
		assert.Equal(t, test.failure == "", state.Healthy, "%s: %s", test.name, state.Message)
		assert.Contains(t, state.Message, test.failure, test.name)
		assert.NotContains(t, state.Message, "->", test.name)
	}
	assert.False(t, followed.Load(), "redirects are not followed")
}

func TestProbesKeepToTheAddressPolicy(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	h := start(t, func(o *fleet.Options) { o.Probe = nil })
	probe := fleet.Probe{Scheme: "http", Address: "localhost", Port: port(t, server.Listener.Addr().String()), ExpectStatus: 404}
	h.Configure(hostKey, endpoint("web"))
	h.Watch(hostKey, orders, fleet.Watch{Probes: []fleet.Probe{probe}})
	h.eventually("refused", func() bool { return h.View(hostKey, orders).Probes[probe].Known })
	state := h.View(hostKey, orders).Probes[probe]
	assert.False(t, state.Healthy)
	assert.Contains(t, state.Message, "loopback")
}

func TestProbesCrossThresholdsAndAreNotTheHost(t *testing.T) {
	var healthy atomic.Bool
	var asked atomic.Int64
	h := start(t, func(o *fleet.Options) {
		o.Probe = func(_ context.Context, address string, _ fleet.Probe) error {
			asked.Add(1)
			if address != "web" || !healthy.Load() {
				return errors.New("connection refused")
			}
			return nil
		}
	})
	healthy.Store(true)
	probe := fleet.Probe{Scheme: "tcp", Port: 80, Interval: 10 * time.Second, Failures: 3, Successes: 2}
	h.Watch(hostKey, orders, fleet.Watch{Probes: []fleet.Probe{probe}})
	h.connected() // The first look is told too, and whether it was before Watch was left to chance.
	state := func() fleet.ProbeState { return h.View(hostKey, orders).Probes[probe] }
	h.eventually("asked at once", func() bool { return asked.Load() == 1 })
	h.settled()
	assert.False(t, state().Known, "one success of two")
	h.stepping(time.Second, "healthy", func() bool { return state().Healthy })
	assert.EqualValues(t, 2, asked.Load())
	h.settled()
	told := h.told(orders)

	healthy.Store(false)
	h.stepping(time.Second, "two failures", func() bool { return asked.Load() >= 4 })
	h.settled()
	assert.True(t, state().Healthy, "two failures of three")
	assert.Equal(t, told, h.told(orders))
	h.stepping(time.Second, "unhealthy", func() bool { return !state().Healthy })
	h.eventually("told", func() bool { return h.told(orders) == told+1 })
	assert.Equal(t, "connection refused", state().Message)
	assert.Equal(t, fleet.Connected, h.status().State, "a failed probe says nothing about the host")

	h.host.Stop()
	h.stepping(time.Second, "unreachable", h.state(fleet.Unreachable))
	healthy.Store(true)
	h.stepping(time.Second, "probes go on without the connection", func() bool { return state().Healthy })
}
