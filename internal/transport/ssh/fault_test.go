package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// rawHost does as told with each connection, and closes it then.
func rawHost(t *testing.T, serve func(net.Conn)) Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close() //nolint:errcheck // it ends either way
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		group.Wait()
	})
	return Config{Address: listener.Addr().String(), User: "operator", Password: "secret-word"}
}

func reset(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

// drip writes a byte at a time until the other end has had enough.
func drip(conn net.Conn, pause time.Duration) {
	for {
		if _, err := conn.Write([]byte("x")); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func flood(conn net.Conn, line string) {
	for {
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}

// TestHostsThatDoNotSpeakSSH, or only seem to: unreachable, within the deadline, and tried again later.
func TestHostsThatDoNotSpeakSSH(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"accepts and says nothing":    func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"resets":                      reset,
		"closes before its version":   func(net.Conn) {},
		"closes after its version":    func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") },
		"drips for ever":              func(c net.Conn) { drip(c, 20*time.Millisecond) },
		"floods lines":                func(c net.Conn) { flood(c, "Welcome!\r\n") },
		"floods without a line":       func(c net.Conn) { flood(c, "Welcome!") },
		"drips after its version":     func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); drip(c, 20*time.Millisecond) },
		"floods after its version":    func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); flood(c, "\x00\x00\x00\x0c\x06\x02") },
		"is a web server":             func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"speaks SSH 1":                func(c net.Conn) { _, _ = io.WriteString(c, "SSH-1.5-old\r\n") },
		"announces a gigantic packet": func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n\x7f\xff\xff\xff\x04\x14") },
	} {
		t.Run(name, func(t *testing.T) {
			config := rawHost(t, serve)
			config.DialTimeout = 500 * time.Millisecond
			began := time.Now()
			unreachable := &transport.UnreachableError{}
			require.ErrorAs(t, dialError(t, config), &unreachable)
			require.Less(t, time.Since(began), 1500*time.Millisecond)
		})
	}
}

// TestBannerFlood: a host that greets for ever, in place of an answer to the password.
func TestBannerFlood(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
			return nil, &ssh.BannerError{Err: errors.New("refused"), Message: strings.Repeat("Welcome! ", 1000)}
		}
		h.config.BannerCallback = func(ssh.ConnMetadata) string { return "Authorised use only.\r\n" }
	})
	config := host.dialConfig()
	refused := &transport.CredentialsError{}
	require.ErrorAs(t, dialError(t, config), &refused, "a banner or two are nothing to worry about")

	flooding := newFakeHost(t, func(h *fakeHost) {
		h.config.PreAuthConnCallback = func(conn ssh.ServerPreAuthConn) {
			for range 100 * mostBanners {
				if conn.SendAuthBanner("Welcome!") != nil {
					return
				}
			}
		}
	})
	err := dialError(t, flooding.dialConfig())
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "one banner after the other")
	require.Zero(t, flooding.passwords.Load())

	auth := &authenticator{lost: func() error { return nil }}
	for range mostBanners {
		require.NoError(t, auth.banner("Welcome!"))
	}
	require.ErrorIs(t, auth.banner("Welcome!"), errBanners)
	_, err = auth.next(&ssh.ClientAuthContext{AllowedMethods: []string{password}})
	require.ErrorIs(t, err, errBanners, "no more is told to such a host")
	require.False(t, auth.refused(err))
}

// TestPenalties: a server that hears nobody for a while after a refusal, as OpenSSH
// does since 9.8. The refusal is known from the first attempt; what follows is no second one.
func TestPenalties(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.penalties = true })
	config := host.dialConfig()
	config.Password = "wrong"
	refused := &transport.CredentialsError{}
	require.ErrorAs(t, dialError(t, config), &refused)
	require.Equal(t, int32(1), host.passwords.Load())
	for range 5 {
		unreachable := &transport.UnreachableError{}
		err := dialError(t, config)
		require.ErrorAs(t, err, &unreachable)
		require.False(t, errors.As(err, &refused))
	}
	require.Equal(t, int32(1), host.passwords.Load(), "nothing was tried meanwhile")
}

// TestPenaltiesOfAJump: what is behind it leaves it alone.
func TestPenaltiesOfAJump(t *testing.T) {
	bastion, target := newFakeHost(t, func(h *fakeHost) { h.penalties = true }), newFakeHost(t, nil)
	pool := newTestPool(t)
	config := via(target, bastion)
	config.Jump.Password = "wrong"
	_, err := pool.Dial(context.Background(), config)
	refused := &transport.CredentialsError{}
	require.ErrorAs(t, err, &refused)
	config.Jump.Version, config.Jump.Password = "changed", "right"
	for range 20 {
		_, err = pool.Dial(context.Background(), config)
		unreachable := &transport.UnreachableError{}
		require.ErrorAs(t, err, &unreachable)
	}
	require.Equal(t, int32(2), bastion.accepted.Load(), "after the first failure it is left alone for a second")
}

// TestExpiredPasswords: in all the ways in which hosts ask for another one.
func TestExpiredPasswords(t *testing.T) {
	ask := func(name, instruction string, questions ...string) func(*fakeHost) {
		return func(h *fakeHost) {
			h.config.PasswordCallback = nil
			h.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				if answers, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil || answers[0] != "right" {
					return nil, errors.New("refused")
				}
				h.passwords.Add(1)
				if answers, err := ask(name, instruction, questions, make([]bool, len(questions))); err == nil && len(answers) > 0 {
					h.passwords.Add(1)
				}
				return nil, errors.New("refused")
			}
		}
	}
	const expired, more = "keyboard-interactive: the password has expired and the host wants a new one", "keyboard-interactive: the host asks for more than a password"
	for name, c := range map[string]struct {
		change func(*fakeHost)
		method string
	}{
		"Linux-PAM":    {ask("", "You are required to change your password immediately (administrator enforced).", "Current password: "), expired},
		"new password": {ask("", "", "New password: ", "Retype new password: "), expired},
		"older PAM":    {ask("", "", "(current) UNIX password: "), expired},
		"old password": {ask("", "", "Old Password:"), expired},
		"said before": {func(h *fakeHost) {
			ask("", "", "Password: ")(h)
			h.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				if _, err := ask("", "", []string{"Password: "}, []bool{false}); err == nil {
					h.passwords.Add(1)
				}
				_, _ = ask("", "Your password has expired.", nil, nil)
				_, err := ask("", "", []string{"Enter it: "}, []bool{false})
				return nil, err
			}
		}, expired},
		"title":         {ask("Password expired", "", "Enter: "), expired},
		"second factor": {ask("", "", "Verification code: ", "Another: "), more},
		"asked again":   {ask("", "", "Password: "), "keyboard-interactive"},
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, c.change)
			refused := &transport.CredentialsError{}
			require.ErrorAs(t, dialError(t, host.dialConfig()), &refused)
			require.Equal(t, c.method, refused.Method)
			require.Equal(t, int32(1), host.passwords.Load())
		})
	}
}

// TestPasswordThatExpiresSoon: a warning, with the question or after the answer, is no refusal.
func TestPasswordThatExpiresSoon(t *testing.T) {
	const warning = "Your password will expire in 3 days: change your password soon."
	host := newFakeHost(t, func(h *fakeHost) {
		h.config.PasswordCallback = nil
		h.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", warning, []string{"Password: "}, []bool{false})
			if err != nil || answers[0] != "right" {
				return nil, errors.New("refused")
			}
			_, err = ask("", warning, nil, nil)
			return nil, err
		}
	})
	host.dial(t)
}

// TestPasswordChangeRequest is how servers without PAM ask: RFC 4252, section 8.
func TestPasswordChangeRequest(t *testing.T) {
	auth := &authenticator{tried: []string{password}, exhausted: true}
	require.True(t, auth.refused(errors.New("ssh: handshake failed: ssh: unexpected message type 60 (expected 52)")))
	require.Equal(t, "password: the password has expired and the host wants a new one", auth.methods())
}

// TestHalfOpen: packets are lost for ever. The end of a request needs no answer, and keepalives find out.
func TestHalfOpen(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.handle = stuck })
	proxy := newHalfOpen(t, host.listener.Addr().String())
	config := host.dialConfig()
	config.Address = proxy.address()
	config.KeepAliveInterval, config.KeepAliveTimeout = 500*time.Millisecond, 500*time.Millisecond
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	running := make(chan error, 1)
	go func() {
		_, err := client.Run(context.Background(), Request{Command: "x", Stdin: endless{}})
		running <- err
	}()
	require.Eventually(t, func() bool { return host.open.Load() == 1 }, 5*time.Second, time.Millisecond)
	proxy.freeze()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = client.Run(ctx, Request{Command: "x"})
	require.Error(t, err)
	require.Less(t, time.Since(began), 100*time.Millisecond+closeTime+time.Second)
	lost := &transport.LostError{}
	require.ErrorAs(t, <-running, &lost, "and one without a deadline ends with the connection")
	<-client.Done()
	require.NoError(t, client.Close())
	requireJoined(t)
}
