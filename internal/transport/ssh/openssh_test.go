package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/sshd"
)

// openSSH is a real server, and how to reach it.
type openSSH struct {
	*sshd.Server
	config Config
}

// realServer starts an OpenSSH server on loopback that a new key is authorized at.
func realServer(t *testing.T, options sshd.Options) *openSSH {
	t.Helper()
	if _, err := exec.LookPath("/usr/sbin/sshd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("OpenSSH's server is not installed")
		}
		t.Skip("OpenSSH's server is not installed")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	j, err := janitor.New(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	options.Dir, options.Janitor = t.TempDir(), j
	options.AuthorizedKeys = append(options.AuthorizedKeys, ssh.MarshalAuthorizedKey(key))
	if os.Geteuid() == 0 {
		options.ForceShell = "/bin/sh" // Spares the tests the startup files of whoever runs them.
	}
	server, err := sshd.Start(context.Background(), options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return &openSSH{server, Config{
		Address: server.Addr(), User: server.User(), HostKeys: server.HostKeys(), PrivateKey: pem.EncodeToMemory(block),
	}}
}

func (s *openSSH) dial(t *testing.T) *Client {
	t.Helper()
	client, err := Dial(context.Background(), s.config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// logged counts a text in the server's log.
func (s *openSSH) logged(t *testing.T, text string) int {
	t.Helper()
	log, err := os.ReadFile(s.Log())
	require.NoError(t, err)
	return bytes.Count(log, []byte(text))
}

func output(t *testing.T, client *Client, command string) string {
	t.Helper()
	result, err := client.Run(context.Background(), Request{Command: command})
	require.NoError(t, err)
	require.Zero(t, result.ExitCode, string(result.Stderr))
	return strings.TrimSpace(string(result.Stdout))
}

func TestOpenSSHUserCertificate(t *testing.T) {
	authority := newSigner(t)
	trusted := filepath.Join(t.TempDir(), "authorities")
	require.NoError(t, os.WriteFile(trusted, ssh.MarshalAuthorizedKey(authority.PublicKey()), 0o600))
	server := realServer(t, sshd.Options{Config: []string{"TrustedUserCAKeys " + trusted, "LogLevel DEBUG1"}})
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]any{"ed25519": edKey, "RSA": rsaKey(t, 3072)} {
		config := server.config
		config.PrivateKey = privateKey(t, key, "")
		_, err = Dial(context.Background(), config)
		refused := &transport.CredentialsError{}
		require.ErrorAs(t, err, &refused, "the bare key is not authorized: "+name)
		config.Certificate = ssh.MarshalAuthorizedKey(issue(t, authority, signerOf(t, key).PublicKey(), ssh.UserCert, nil, server.User()))
		client, err := Dial(context.Background(), config)
		require.NoError(t, err, name)
		require.NotEmpty(t, output(t, client, "id -un"))
		require.NoError(t, client.Close())
	}
	connections := server.logged(t, "Connection from")
	require.Positive(t, connections)
	config := server.config
	config.PrivateKey = privateKey(t, edKey, "")
	config.Certificate = ssh.MarshalAuthorizedKey(issue(t, authority, signerOf(t, edKey).PublicKey(), ssh.UserCert, expired, server.User()))
	_, err = Dial(context.Background(), config)
	require.ErrorContains(t, err, "the certificate expired at")
	require.Equal(t, connections, server.logged(t, "Connection from"), "nothing was sent")
}

// TestOpenSSHHostCertificate: with the log of the server as a witness that nothing was said to a wrong one.
func TestOpenSSHHostCertificate(t *testing.T) {
	authority := newSigner(t)
	server := realServer(t, sshd.Options{
		Config: []string{"LogLevel DEBUG2"},
		Certify: func(key ssh.PublicKey, address netip.AddrPort) (*ssh.Certificate, error) {
			return issue(t, authority, key, ssh.HostCert, nil, fmt.Sprintf("[%s]:%d", address.Addr(), address.Port())), nil
		},
	})
	config := server.config
	config.HostKeys = nil
	for _, other := range []ssh.PublicKey{newSigner(t).PublicKey(), nil} {
		if other != nil {
			config.HostKeyAuthorities = []string{keyLine(other)}
			_, err := Dial(context.Background(), config)
			trust := &transport.TrustError{}
			require.ErrorAs(t, err, &trust)
			require.Zero(t, server.logged(t, "userauth-request"))
			continue
		}
		config.HostKeyAuthorities = []string{keyLine(authority.PublicKey())}
		client, err := Dial(context.Background(), config)
		require.NoError(t, err)
		require.Equal(t, server.HostKeys()[0], client.HostKey())
		require.NoError(t, client.Close())
		require.Positive(t, server.logged(t, "userauth-request"), "what was looked for above must be there when it is")
	}
	// A reinstalled machine with a new certificate of the same authority is the same machine.
	require.NoError(t, server.SwapHostKey(context.Background()))
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	require.NoError(t, client.Close())
}

// TestOpenSSHJump: thirty hosts behind a server that takes two newcomers at a time.
func TestOpenSSHJump(t *testing.T) {
	bastion := realServer(t, sshd.Options{Config: []string{"MaxStartups 2", "MaxSessions 1"}})
	target := realServer(t, sshd.Options{Config: []string{"MaxStartups 100"}})
	pool := newTestPool(t)
	config := target.config
	jump := bastion.config
	jump.Version = "1"
	config.Jump, config.DialTimeout = &jump, 60*time.Second
	clients := make([]*Client, 30)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			var err error
			if clients[i], err = pool.Dial(context.Background(), config); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.False(t, t.Failed())
	require.Equal(t, 1, bastion.logged(t, "Accepted publickey"))
	require.Equal(t, 30, target.logged(t, "Accepted publickey"))
	for _, client := range clients {
		require.Equal(t, "hello", output(t, client, "echo hello"))
		require.NoError(t, client.Close())
	}
	// The key of the jump host is swapped while the pool is in use: what is open goes
	// on, and a new connection is refused without a word to the target.
	client, err := pool.Dial(context.Background(), config)
	require.NoError(t, err)
	require.NoError(t, bastion.SwapHostKey(context.Background()))
	require.Equal(t, "hello", output(t, client, "echo hello"))
	require.NoError(t, client.Close())
	pool.mu.Lock()
	kept := pool.jumps["1"].client
	pool.mu.Unlock()
	require.NoError(t, kept.Close())
	_, err = pool.Dial(context.Background(), config)
	trust := &transport.TrustError{}
	require.ErrorAs(t, err, &trust)
	require.Empty(t, trust.Seen)
	require.ErrorContains(t, err, "jump host "+jump.Address)
	require.Equal(t, 31, target.logged(t, "Accepted publickey"))
}

// alive tells whether a process of this machine lives.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// TestOpenSSHCancelledCommand: what the transport sees to when a request is
// cancelled, and when its connection is closed: the input of the command ends and its
// output has no reader. A command that watches its input ends with all it has started.
func TestOpenSSHCancelledCommand(t *testing.T) {
	// The login shell leads a process group of its own; the watcher ends it whole.
	const watched = `exec 3<&0 </dev/null; (read -r never <&3; kill -KILL 0) & sleep 300 & echo $$ $!; wait`
	for name, c := range map[string]struct {
		command string
		end     func(cancel context.CancelFunc, client *Client)
	}{
		"cancelled, input watched":         {watched, func(cancel context.CancelFunc, _ *Client) { cancel() }},
		"connection closed, input watched": {watched, func(_ context.CancelFunc, client *Client) { _ = client.Close() }},
		"cancelled, reads":                 {`echo $$ $$; exec cat`, func(cancel context.CancelFunc, _ *Client) { cancel() }},
		"cancelled, writes":                {`echo $$ $$; exec yes`, func(cancel context.CancelFunc, _ *Client) { cancel() }},
	} {
		t.Run(name, func(t *testing.T) {
			server := realServer(t, sshd.Options{})
			client := server.dial(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stdin, line := newBlocked(ctx, ""), make(chan string, 1)
			var said strings.Builder
			ended := make(chan time.Duration, 1)
			go func() {
				began := time.Now()
				_, err := client.Run(ctx, Request{Command: c.command, Stdin: stdin, OnStdout: func(chunk []byte) {
					if strings.Contains(said.String(), "\n") {
						return
					}
					if said.Write(chunk); strings.Contains(said.String(), "\n") {
						line <- said.String()
					}
				}})
				if err == nil {
					t.Error("it has ended by itself")
				}
				ended <- time.Since(began)
			}()
			var shell, child int
			_, err := fmt.Sscan(<-line, &shell, &child)
			require.NoError(t, err)
			require.True(t, alive(shell) && alive(child))
			began := time.Now()
			c.end(cancel, client)
			<-ended
			require.Less(t, time.Since(began), closeTime+time.Second)
			require.Eventually(t, func() bool { return !alive(shell) && !alive(child) }, 5*time.Second, 10*time.Millisecond,
				"processes are left on the host")
			cancel()
			requireJoined(t, "ssh.(*session)")
		})
	}
}

// TestOpenSSHCancelledCommandThatWatchesNothing shows what the transport cannot do,
// and why the machine has to: nothing reaches a process that neither reads nor
// writes. If a server ends it one day, this test says so.
func TestOpenSSHCancelledCommandThatWatchesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a server without root's rights may pass signals on")
	}
	server := realServer(t, sshd.Options{})
	client := server.dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pids := make(chan int, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := client.Run(ctx, Request{Command: `echo $$; exec sleep 300`, OnStdout: func(chunk []byte) {
			pid, _ := strconv.Atoi(strings.TrimSpace(string(chunk)))
			pids <- pid
		}})
		ended <- err
	}()
	pid := <-pids
	cancel()
	require.Error(t, <-ended)
	time.Sleep(500 * time.Millisecond)
	require.True(t, alive(pid))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

func TestOpenSSHFewSessions(t *testing.T) {
	server := realServer(t, sshd.Options{Config: []string{"MaxSessions 3"}})
	client := server.dial(t)
	refused := 0
	for _, err := range runSome(client, 24) { // "echo" without arguments prints nothing: only refusals count here.
		unreachable := &transport.UnreachableError{}
		if errors.As(err, &unreachable) {
			require.ErrorContains(t, err, "the host opens no session")
			refused++
		}
	}
	require.Less(t, refused, 24)
	require.LessOrEqual(t, client.sessions.limit, 4)
	require.Equal(t, 1, server.logged(t, "Accepted publickey"), "one connection, however many sessions")
	for range 10 {
		require.Equal(t, "ok", output(t, client, "echo ok"))
	}
}

// TestOpenSSHFrozen: the kernel accepts for a server that is stopped, and nobody answers.
func TestOpenSSHFrozen(t *testing.T) {
	server := realServer(t, sshd.Options{})
	require.NoError(t, server.Freeze())
	config := server.config
	config.DialTimeout = 500 * time.Millisecond
	began := time.Now()
	_, err := Dial(context.Background(), config)
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "no SSH handshake in time")
	require.Less(t, time.Since(began), 1500*time.Millisecond)
	require.NoError(t, server.Thaw())
	requireJoined(t)
	require.Equal(t, "ok", output(t, server.dial(t), "echo ok"))
}

// TestOpenSSHSessionProcess: the process that serves the connection is frozen, and killed.
func TestOpenSSHSessionProcess(t *testing.T) {
	server := realServer(t, sshd.Options{})
	server.config.KeepAliveInterval, server.config.KeepAliveTimeout = 200*time.Millisecond, 500*time.Millisecond
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			client := server.dial(t)
			pid, err := strconv.Atoi(output(t, client, `echo $PPID`))
			require.NoError(t, err)
			require.NotEqual(t, server.PID(), pid)
			running := make(chan error, 1)
			go func() {
				_, err := client.Run(context.Background(), Request{Command: "exec cat", Stdin: endlessSlow{}})
				running <- err
			}()
			require.Eventually(t, func() bool { return inUse(client.sessions) == 1 }, 5*time.Second, time.Millisecond)
			require.NoError(t, syscall.Kill(pid, signal))
			if signal == syscall.SIGSTOP {
				defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
			}
			lost := &transport.LostError{}
			require.ErrorAs(t, <-running, &lost)
			<-client.Done()
			require.NoError(t, client.Close())
			requireJoined(t)
		})
	}
	require.Equal(t, "ok", output(t, server.dial(t), "echo ok"))
}

func inUse(l *limiter) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// endlessSlow is an input that always has a little more to say.
type endlessSlow struct{}

func (endlessSlow) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return copy(p, "x"), nil
}

// TestOpenSSHExitWithoutStatus: a command that takes its server's process with it, and one that dies of a signal.
func TestOpenSSHExitWithoutStatus(t *testing.T) {
	server := realServer(t, sshd.Options{})
	client := server.dial(t)
	result, err := client.Run(context.Background(), Request{Command: `kill -TERM $$`})
	require.NoError(t, err)
	require.Equal(t, Result{ExitCode: 143, Signal: "TERM", Stdout: []byte{}, Stderr: []byte{}}, result)
	lost := &transport.LostError{}
	_, err = client.Run(context.Background(), Request{Command: `kill -KILL $PPID`})
	require.ErrorAs(t, err, &lost)
	requireJoined(t, "ssh.(*session)")
}

func TestOpenSSHEndlessOutput(t *testing.T) {
	client := realServer(t, sshd.Options{}).dial(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	seen := 0
	began := time.Now()
	_, err := client.Run(ctx, Request{Command: "exec yes", MaxStdout: 1 << 10, OnStdout: func(chunk []byte) { seen += len(chunk) }})
	lost := &transport.LostError{}
	require.ErrorAs(t, err, &lost)
	require.Greater(t, seen, 1<<20)
	require.Less(t, time.Since(began), time.Second+closeTime+time.Second)
	require.Equal(t, "ok", output(t, client, "echo ok"))
}
