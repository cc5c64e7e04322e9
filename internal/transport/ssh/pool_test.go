package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

func newTestPool(t *testing.T) *Pool {
	t.Helper()
	pool := NewPool()
	t.Cleanup(func() {
		pool.Close()
		requireJoined(t)
	})
	return pool
}

// via is how target is reached through the hops, the last of which is next to it.
func via(target *fakeHost, hops ...*fakeHost) Config {
	config := target.dialConfig()
	if len(hops) > 0 {
		jump := via(hops[len(hops)-1], hops[:len(hops)-1]...)
		jump.Version = fmt.Sprint("version of ", jump.Address)
		config.Jump = &jump
	}
	return config
}

func echo(t *testing.T, client *Client) {
	t.Helper()
	result, err := client.Run(context.Background(), Request{Command: "echo", Stdin: strings.NewReader("hello")})
	require.NoError(t, err)
	require.Equal(t, "hello", string(result.Stdout))
}

// users records who logs in.
func users(names *[]string, mu *sync.Mutex) func(*fakeHost) {
	return func(h *fakeHost) {
		h.config.PasswordCallback = func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			mu.Lock()
			defer mu.Unlock()
			*names = append(*names, c.User()+" with "+string(password))
			return nil, nil
		}
	}
}

// TestJumps: four hops, each authenticated as itself, with big answers in both directions.
func TestJumps(t *testing.T) {
	pool := newTestPool(t)
	var mu sync.Mutex
	var logins []string
	hosts := make([]*fakeHost, 5)
	for i := range hosts {
		hosts[i] = newFakeHost(t, users(&logins, &mu))
	}
	config := via(hosts[4], hosts[:4]...)
	for step, hop := 0, &config; hop != nil; step, hop = step+1, hop.Jump {
		hop.User, hop.Password = fmt.Sprint("user", step), fmt.Sprint("password", step)
	}
	client, err := pool.Dial(context.Background(), config)
	require.NoError(t, err)
	require.Equal(t, []string{
		"user4 with password4", "user3 with password3", "user2 with password2", "user1 with password1", "user0 with password0",
	}, logins)
	require.Equal(t, hosts[4].hostKey(), client.HostKey())
	require.Equal(t, netip.MustParseAddrPort(config.Address), client.RemoteAddr())
	echo(t, client)
	text := strings.Repeat("0123456789abcdef", 1<<16)
	result, err := client.Run(context.Background(), Request{Command: "echo", Stdin: strings.NewReader(text), MaxStdout: 2 << 20})
	require.NoError(t, err)
	require.True(t, text == string(result.Stdout), "a megabyte there and back")
	require.NoError(t, client.Close())
}

func TestTooManyJumps(t *testing.T) {
	hosts := make([]*fakeHost, 6)
	for i := range hosts {
		hosts[i] = newFakeHost(t, nil)
	}
	_, err := newTestPool(t).Dial(context.Background(), via(hosts[5], hosts[:5]...))
	require.ErrorContains(t, err, "more than 4 jump hosts")
	loop := hosts[0].dialConfig()
	loop.Version, loop.Jump = "loop", &loop
	_, err = newTestPool(t).Dial(context.Background(), loop)
	require.ErrorContains(t, err, "more than 4 jump hosts")
	for _, host := range hosts {
		require.Zero(t, host.accepted.Load())
	}
}

// TestManyHostsShareAJump: a hundred hosts, one connection to the jump host,
// and five dials at once through it.
func TestManyHostsShareAJump(t *testing.T) {
	pool := newTestPool(t)
	bastion := newFakeHost(t, nil)
	target := newFakeHost(t, func(h *fakeHost) { h.bannerDelay = 30 * time.Millisecond })
	clients := make([]*Client, 100)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			config := via(target, bastion)
			config.DialTimeout = 30 * time.Second
			var err error
			if clients[i], err = pool.Dial(context.Background(), config); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Equal(t, int32(1), bastion.accepted.Load())
	require.Equal(t, int32(100), target.accepted.Load())
	// The target notices a little later than we do that a handshake has ended; TestBudget counts exactly.
	require.LessOrEqual(t, target.mostMet.Load(), int32(2*briskDials))
	for _, client := range clients {
		echo(t, client)
		require.NoError(t, client.Close())
	}
	require.Equal(t, int32(1), bastion.accepted.Load())
}

func TestBudget(t *testing.T) {
	b := newBudget()
	var now, most atomic.Int32
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			leave, err := b.enter(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			raise(&most, now.Add(1))
			time.Sleep(2 * time.Millisecond)
			now.Add(-1)
		})
	}
	group.Wait()
	require.Equal(t, int32(briskDials), most.Load())
	require.Empty(t, b.brisk)
	require.Empty(t, b.slow)
}

// TestDeadHostsDoNotHoldUpOthers: what only waits gives its place to another.
func TestDeadHostsDoNotHoldUpOthers(t *testing.T) {
	pool := newTestPool(t)
	bastion, living := newFakeHost(t, nil), newFakeHost(t, nil)
	silent := newFakeHost(t, func(h *fakeHost) { h.silent = true })
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for range 3 * briskDials {
		group.Go(func() {
			config := via(silent, bastion)
			config.DialTimeout = 30 * time.Second
			if _, err := pool.Dial(ctx, config); err == nil {
				t.Error("a silent host was reached")
			}
		})
	}
	require.Eventually(t, func() bool { return silent.accepted.Load() >= briskDials }, 10*time.Second, time.Millisecond)
	config := via(living, bastion)
	config.DialTimeout = 20 * time.Second
	client, err := pool.Dial(context.Background(), config)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	cancel()
	group.Wait()
}

// TestUnusedJumpIsClosed, and made anew when it is needed again.
func TestUnusedJumpIsClosed(t *testing.T) {
	pool := newTestPool(t)
	pool.idle = 100 * time.Millisecond
	bastion, target := newFakeHost(t, nil), newFakeHost(t, nil)
	for round := range int32(2) {
		first, err := pool.Dial(context.Background(), via(target, bastion))
		require.NoError(t, err)
		second, err := pool.Dial(context.Background(), via(target, bastion))
		require.NoError(t, err)
		require.NoError(t, first.Close())
		time.Sleep(3 * pool.idle)
		echo(t, second) // It is still used.
		require.NoError(t, second.Close())
		require.Eventually(t, func() bool {
			pool.mu.Lock()
			defer pool.mu.Unlock()
			return len(pool.jumps) == 0
		}, 5*time.Second, 10*time.Millisecond)
		requireJoined(t)
		require.Equal(t, round+1, bastion.accepted.Load())
	}
}

// TestDeadJumpIsReplaced, whether its end was seen or not.
func TestDeadJumpIsReplaced(t *testing.T) {
	pool := newTestPool(t)
	bastion, target := newFakeHost(t, nil), newFakeHost(t, nil)
	client, err := pool.Dial(context.Background(), via(target, bastion))
	require.NoError(t, err)
	bastion.drop()
	_, err = client.Run(context.Background(), Request{Command: "echo"})
	lost := &transport.LostError{}
	require.ErrorAs(t, err, &lost, "what goes through it ends with it")
	require.NoError(t, client.Close())
	client, err = pool.Dial(context.Background(), via(target, bastion))
	require.NoError(t, err)
	echo(t, client)
	require.Equal(t, int32(2), bastion.accepted.Load())
	// Dropped in the very moment of the next dial: one more attempt is made.
	bastion.drop()
	again, err := pool.Dial(context.Background(), via(target, bastion))
	require.NoError(t, err)
	echo(t, again)
	require.NoError(t, again.Close())
	require.NoError(t, client.Close())
}

// TestFrozenJump: the connection to a jump host that carries nothing any more is
// noticed by keepalives and replaced; requests end in time meanwhile.
func TestFrozenJump(t *testing.T) {
	pool := newTestPool(t)
	bastion := newFakeHost(t, nil)
	target := newFakeHost(t, func(h *fakeHost) { h.handle = stuck })
	proxy := newHalfOpen(t, bastion.listener.Addr().String())
	config := via(target, bastion)
	config.Jump.Address = proxy.address()
	config.Jump.KeepAliveInterval, config.Jump.KeepAliveTimeout = 300*time.Millisecond, 300*time.Millisecond
	client, err := pool.Dial(context.Background(), config)
	require.NoError(t, err)
	proxy.freeze()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = client.Run(ctx, Request{Command: "x"})
	require.Error(t, err)
	require.Less(t, time.Since(began), 100*time.Millisecond+closeTime+time.Second)
	began = time.Now()
	require.NoError(t, client.Close())
	require.Less(t, time.Since(began), 2*time.Second, "closing needs nobody's consent")
	proxy.thaw() // For new connections; the old one stays dead.
	client, err = pool.Dial(context.Background(), config)
	if err != nil { // It was asked in the moment before the end was noticed.
		client, err = pool.Dial(context.Background(), config)
	}
	require.NoError(t, err)
	require.Equal(t, int32(2), bastion.accepted.Load())
	require.NoError(t, client.Close())
}

// TestRefusedJumpCredentials: fifty hosts behind a jump host that refuses us cost one attempt.
func TestRefusedJumpCredentials(t *testing.T) {
	pool := newTestPool(t)
	bastion, target := newFakeHost(t, nil), newFakeHost(t, nil)
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			time.Sleep(time.Duration(i) * 5 * time.Millisecond)
			config := via(target, bastion)
			config.Jump.Password = "wrong-and-secret"
			config.RequestedAt = fmt.Sprint(i / 10)
			_, err := pool.Dial(context.Background(), config)
			refused := &transport.CredentialsError{}
			if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "jump host "+config.Jump.Address+": the host refused user") || strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Equal(t, int32(1), bastion.passwords.Load())
	require.Zero(t, target.accepted.Load())

	// Changed credentials are another version, and are tried at once.
	config := via(target, bastion)
	config.Jump.Version = "changed"
	client, err := pool.Dial(context.Background(), config)
	require.NoError(t, err)
	require.NoError(t, client.Close())
}

// TestRefusedJumpIsAskedAgainForAPerson, once for each request, and not in a hurry.
func TestRefusedJumpIsAskedAgainForAPerson(t *testing.T) {
	now := time.Now()
	refused := &transport.CredentialsError{}
	j := &jump{}
	require.NoError(t, j.resting("", now))
	j.fail(refused, "", now)
	require.ErrorIs(t, j.resting("", now.Add(24*time.Hour)), refused)
	require.ErrorIs(t, j.resting("please", now.Add(refusalRest-time.Second)), refused)
	require.NoError(t, j.resting("please", now.Add(refusalRest)))
	j.fail(refused, "please", now.Add(refusalRest))
	require.ErrorIs(t, j.resting("please", now.Add(time.Hour)), refused)
	require.ErrorIs(t, j.resting("", now.Add(time.Hour)), refused)
	require.NoError(t, j.resting("once more", now.Add(time.Hour)))
}

// TestARequestReachesEveryHop: a person asks once more, at the target or at a hop, when the
// first hop lets us in again.
func TestARequestReachesEveryHop(t *testing.T) {
	for name, ask := range map[string]func(*Config){
		"at the target":    func(c *Config) { c.RequestedAt = "please" },
		"at the first hop": func(c *Config) { c.Jump.Jump.RequestedAt = "please" },
	} {
		t.Run(name, func(t *testing.T) {
			pool := newTestPool(t)
			var closed atomic.Bool
			closed.Store(true)
			first, second, target := newFakeHost(t, func(h *fakeHost) {
				h.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
					if closed.Load() {
						return nil, io.EOF
					}
					return nil, nil
				}
			}), newFakeHost(t, nil), newFakeHost(t, nil)
			_, err := pool.Dial(context.Background(), via(target, first, second))
			refused := &transport.CredentialsError{}
			require.ErrorAs(t, err, &refused)
			closed.Store(false)
			pool.mu.Lock()
			for _, j := range pool.jumps {
				j.until = time.Now()
			}
			pool.mu.Unlock()
			_, err = pool.Dial(context.Background(), via(target, first, second))
			require.ErrorAs(t, err, &refused, "nobody has asked")
			config := via(target, first, second)
			ask(&config)
			client, err := pool.Dial(context.Background(), config)
			require.NoError(t, err)
			require.NoError(t, client.Close())
		})
	}
}

// TestJumpIsLeftAloneAfterFailures, longer each time.
func TestJumpIsLeftAloneAfterFailures(t *testing.T) {
	now := time.Now()
	j := &jump{}
	gone := errors.New("gone")
	for _, rest := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		j.fail(gone, "", now)
		rest *= time.Second
		require.ErrorIs(t, j.resting("now!", now.Add(rest-time.Millisecond)), gone)
		require.NoError(t, j.resting("", now.Add(rest)))
		now = now.Add(rest)
	}
}

// TestUntrustedJump: what a jump host shows cannot be pinned as the target's, and the target is not met.
func TestUntrustedJump(t *testing.T) {
	for name, pins := range map[string][]string{
		"unpinned": nil,
		"changed":  {keyLine(newSigner(t).PublicKey())},
	} {
		t.Run(name, func(t *testing.T) {
			pool := newTestPool(t)
			bastion, target := newFakeHost(t, nil), newFakeHost(t, nil)
			config := via(target, bastion)
			config.HostKeys = nil // The target is one that is trusted on first use.
			config.Jump.HostKeys = pins
			_, err := pool.Dial(context.Background(), config)
			trust := &transport.TrustError{}
			require.ErrorAs(t, err, &trust)
			require.Equal(t, transport.TrustMismatch, trust.Reason)
			require.Empty(t, trust.Seen)
			hop := &transport.HopError{}
			require.ErrorAs(t, err, &hop)
			require.Equal(t, config.Jump.Address, hop.Hop)
			require.ErrorContains(t, err, "jump host "+config.Jump.Address+": the host's identity ("+ssh.FingerprintSHA256(bastion.key.PublicKey()))
			require.Zero(t, bastion.authBytes.Load())
			require.Zero(t, target.accepted.Load())
		})
	}
}

// TestTrustOnFirstUseThroughAJump: the key to pin is the target's.
func TestTrustOnFirstUseThroughAJump(t *testing.T) {
	bastion, target := newFakeHost(t, nil), newFakeHost(t, nil)
	config := via(target, bastion)
	config.HostKeys = nil
	_, err := newTestPool(t).Dial(context.Background(), config)
	trust := &transport.TrustError{}
	require.ErrorAs(t, err, &trust)
	require.Equal(t, transport.TrustUnpinned, trust.Reason)
	require.Equal(t, target.hostKey(), trust.Seen)
	require.Zero(t, target.authBytes.Load())
}

// TestHopOfAFailure: which of the hosts on the way it was.
func TestHopOfAFailure(t *testing.T) {
	first, second, target := newFakeHost(t, nil), newFakeHost(t, nil), newFakeHost(t, nil)
	for name, c := range map[string]struct {
		change func(*Config)
		hop    string // empty: the target
		says   string
	}{
		"first hop refuses":  {func(c *Config) { c.Jump.Jump.Password = "x" }, first.listener.Addr().String(), "the host refused user"},
		"second hop refuses": {func(c *Config) { c.Jump.Password = "x" }, second.listener.Addr().String(), "the host refused user"},
		"target refuses":     {func(c *Config) { c.Password = "x" }, "", "the host refused user"},
		"first hop is gone":  {func(c *Config) { c.Jump.Jump.Address = "127.0.0.1:1" }, "127.0.0.1:1", "connection refused"},
		"second hop is gone": {func(c *Config) { c.Jump.Address = "127.0.0.1:1" }, "127.0.0.1:1",
			"reach 127.0.0.1:1 through jump host " + first.listener.Addr().String() + ": the jump host cannot connect to it: Connection refused"},
		"target is gone": {func(c *Config) { c.Address = "127.0.0.1:1" }, "",
			"reach 127.0.0.1:1 through jump host " + second.listener.Addr().String() + ": the jump host cannot connect to it: Connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			config := via(target, first, second)
			c.change(&config)
			_, err := newTestPool(t).Dial(context.Background(), config)
			hop := &transport.HopError{}
			if c.hop == "" {
				require.False(t, errors.As(err, &hop))
			} else {
				require.ErrorAs(t, err, &hop)
				require.Equal(t, c.hop, hop.Hop)
			}
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestJumpThatForwardsNothing(t *testing.T) {
	bastion, target := newFakeHost(t, func(h *fakeHost) { h.noForwarding = true }), newFakeHost(t, nil)
	_, err := newTestPool(t).Dial(context.Background(), via(target, bastion))
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "does not allow it (AllowTcpForwarding, PermitOpen)")
}

// TestPortThatIsNone: what is wrong with an address holds no jump host for ever.
func TestPortThatIsNone(t *testing.T) {
	pool := newTestPool(t)
	bastion, target := newFakeHost(t, nil), newFakeHost(t, nil)
	config := via(target, bastion)
	config.Address = "127.0.0.1:ssh"
	_, err := pool.Dial(context.Background(), config)
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.Zero(t, pool.jumps[config.Jump.Version].users)
}

// TestAddressesBehindJumps: what the operator may not connect to, a jump host is not asked to either.
func TestAddressesBehindJumps(t *testing.T) {
	forbidden := errors.New("forbidden")
	bastion := newFakeHost(t, nil)
	for address, refused := range map[string]bool{
		"169.254.169.254:22": true, "[fe80::1]:22": true, "localhost:22": true, "a.localhost:22": true, "LOCALHOST.:22": true,
		"127.1:22": true, "2130706433:22": true, "0x7f000001:22": true, "127.0.0.0x1:22": true, "0177.0.0.1:22": true, "1.2.3.4.:22": true,
		"10.0.0.1:22": false, "db.example:22": false, "db1:22": false, "1.example:22": false,
	} {
		config := Config{
			Address: address, Jump: &Config{Address: bastion.listener.Addr().String(), Version: "1"},
			CheckAddress: func(a netip.Addr) error {
				if a.IsLoopback() || a.IsLinkLocalUnicast() {
					return forbidden
				}
				return nil
			},
		}
		err := checkChain(config)
		require.Equal(t, refused, err != nil, "%s: %v", address, err)
		target := config
		target.Address, target.Jump = "10.0.0.1:22", &config
		config.Version = "2"
		require.Equal(t, refused, checkChain(target) != nil, "as a hop: %s", address)
	}
	config := Config{Address: "169.254.169.254:22", Jump: &Config{Address: bastion.listener.Addr().String(), Version: "1"},
		CheckAddress: func(netip.Addr) error { return forbidden }}
	_, err := newTestPool(t).Dial(context.Background(), config)
	require.ErrorIs(t, err, forbidden)
	require.Zero(t, bastion.accepted.Load())
}

// TestDialThroughASilentJumpEndsWithItsContext, and the dial ends when nobody waits for it.
func TestDialThroughASilentJumpEndsWithItsContext(t *testing.T) {
	pool := newTestPool(t)
	bastion, target := newFakeHost(t, func(h *fakeHost) { h.silent = true }), newFakeHost(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := pool.Dial(ctx, via(target, bastion))
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "jump host "+bastion.listener.Addr().String())
	require.Less(t, time.Since(began), 1200*time.Millisecond)
	requireJoined(t)
}

// TestJumpIsDialledAgainAfterOthersLeft: that they had no time left says nothing about the jump host.
func TestJumpIsDialledAgainAfterOthersLeft(t *testing.T) {
	pool := newTestPool(t)
	bastion, target := newFakeHost(t, func(h *fakeHost) { h.bannerDelay = 300 * time.Millisecond }), newFakeHost(t, nil)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err := pool.Dial(ctx, via(target, bastion))
		cancel()
		require.Error(t, err)
	}
	client, err := pool.Dial(context.Background(), via(target, bastion))
	require.NoError(t, err)
	echo(t, client)
	require.NoError(t, client.Close())
}

// TestPoolClosesWhileDialling leaves nothing.
func TestPoolClosesWhileDialling(t *testing.T) {
	pool := NewPool()
	bastion, target := newFakeHost(t, func(h *fakeHost) { h.silent = true }), newFakeHost(t, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := pool.Dial(context.Background(), via(target, bastion))
		ended <- err
	}()
	require.Eventually(t, func() bool { return bastion.accepted.Load() == 1 }, 5*time.Second, time.Millisecond)
	pool.Close()
	require.Error(t, <-ended)
	requireJoined(t)
	_, err := pool.Dial(context.Background(), via(target, bastion))
	require.ErrorIs(t, err, errPoolClosed)
}

// TestSlowReaderBehindAJump: a target that reads nothing does not keep its user from leaving.
func TestSlowReaderBehindAJump(t *testing.T) {
	block := make(chan struct{})
	target := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) { <-block }
	})
	defer close(block)
	client, err := newTestPool(t).Dial(context.Background(), via(target, newFakeHost(t, nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = client.Run(ctx, Request{Command: "x", Stdin: io.MultiReader(strings.NewReader(strings.Repeat("x", 8<<20)), endless{})})
	require.Error(t, err)
	require.NoError(t, client.Close())
	require.Less(t, time.Since(began), 3*time.Second)
}
