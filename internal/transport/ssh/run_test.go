package ssh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

func TestRun(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(command string, s *fakeSession) {
			input, _ := io.ReadAll(s)
			_, _ = fmt.Fprintf(s, "%s:%s", command, input)
			_, _ = io.WriteString(s.Stderr(), "grumble")
			s.exit(1060)
		}
	})
	client := host.dial(t)
	result, err := client.Run(context.Background(), Request{Command: "do", Stdin: strings.NewReader("it")})
	require.NoError(t, err)
	require.Equal(t, Result{ExitCode: 1060, Stdout: []byte("do:it"), Stderr: []byte("grumble")}, result)
	result, err = client.Run(context.Background(), Request{Command: "do"})
	require.NoError(t, err)
	require.Equal(t, "do:", string(result.Stdout))
	requireJoined(t, "ssh.(*session)")
}

func TestSignalIsAResult(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) {
			_, _ = s.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal     string
				Core       bool
				Error, Tag string
			}{"KILL", false, "", ""}))
		}
	})
	result, err := host.dial(t).Run(context.Background(), Request{Command: "x"})
	require.NoError(t, err)
	require.Equal(t, "KILL", result.Signal)
	require.Equal(t, 137, result.ExitCode)
}

// TestOutputIsBounded: a host that prints for ever costs the limit and no more.
func TestOutputIsBounded(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) {
			_, _ = io.WriteString(s, "head")
			for range 512 {
				_, _ = s.Write(bytes.Repeat([]byte("x"), 32<<10))
			}
			_, _ = io.WriteString(s, "tail")
			s.exit(0)
		}
	})
	result, err := host.dial(t).Run(context.Background(), Request{Command: "x", MaxStdout: 1000})
	require.NoError(t, err)
	require.True(t, result.Truncated)
	require.Len(t, result.Stdout, 1000)
	require.True(t, bytes.HasPrefix(result.Stdout, []byte("headx")))
	require.True(t, bytes.HasSuffix(result.Stdout, []byte("xtail")))
}

func TestCapture(t *testing.T) {
	text := make([]byte, 5000)
	for i := range text {
		text[i] = byte(i % 251)
	}
	for _, limit := range []int{2, 10, 1000, 4998, 5000, 8000} {
		for _, piece := range []int{1, 7, 333, 5000} {
			c := newCapture(limit)
			for rest := text; len(rest) > 0; {
				n, err := c.Write(rest[:min(piece, len(rest))])
				require.NoError(t, err)
				rest = rest[n:]
			}
			kept, cut := c.bytes()
			if limit >= len(text) {
				require.False(t, cut)
				require.Equal(t, text, kept)
				continue
			}
			require.True(t, cut)
			require.Equal(t, append(append([]byte{}, text[:limit/2]...), text[len(text)-limit/2:]...), kept)
		}
	}
}

// TestBackgroundChild: the command has exited, and something of it holds the output open.
func TestBackgroundChild(t *testing.T) {
	release := make(chan struct{})
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) {
			_, _ = io.WriteString(s, "started")
			s.exit(0)
			<-release
		}
	})
	defer close(release)
	began := time.Now()
	result, err := host.dial(t).Run(context.Background(), Request{Command: "x"})
	require.NoError(t, err)
	require.Equal(t, "started", string(result.Stdout))
	require.GreaterOrEqual(t, time.Since(began), drainTime)
	require.Less(t, time.Since(began), drainTime+closeTime+500*time.Millisecond)
}

func TestLostConnection(t *testing.T) {
	for name, handle := range map[string]func(string, *fakeSession){
		"before the exit status": func(_ string, s *fakeSession) { s.host.drop() },
		"session closed":         func(_ string, s *fakeSession) { _ = s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, func(h *fakeHost) { h.handle = handle })
			client := host.dial(t)
			_, err := client.Run(context.Background(), Request{Command: "x"})
			lost := &transport.LostError{}
			require.ErrorAs(t, err, &lost)
			requireJoined(t, "ssh.(*session)")
		})
	}
}

// TestLostAfterExitStatus: what the host has said is known.
func TestLostAfterExitStatus(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) {
			_, _ = io.WriteString(s, "done")
			s.exit(3)
			_, _ = s.SendRequest("barrier", true, nil) // The client answers when it has read all before.
			s.host.drop()
		}
	})
	result, err := host.dial(t).Run(context.Background(), Request{Command: "x"})
	require.NoError(t, err)
	require.Equal(t, 3, result.ExitCode)
	require.Equal(t, "done", string(result.Stdout))
}

// TestRunEndsWithItsContext, whatever the host does not do.
func TestRunEndsWithItsContext(t *testing.T) {
	for name, prepare := range map[string]func(*fakeHost){
		"stuck output":      func(h *fakeHost) { h.handle = stuck },
		"no session opened": func(h *fakeHost) { h.muteSessions.Store(true) },
		"session not closed": func(h *fakeHost) {
			h.handle = stuck
			h.muteClose.Store(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, prepare)
			client := host.dial(t)
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := client.Run(ctx, Request{Command: "x", Stdin: endless{}})
			lost := &transport.LostError{}
			require.ErrorAs(t, err, &lost)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(began), 200*time.Millisecond+closeTime+300*time.Millisecond)
			if name == "stuck output" {
				requireJoined(t, "ssh.(*session)")
				require.Zero(t, client.sessions.used)
			}
			require.NoError(t, client.Close())
			requireJoined(t)
		})
	}
}

// stuck neither reads nor writes until the client hangs up.
func stuck(_ string, s *fakeSession) { _, _ = io.Copy(io.Discard, s) }

// endless is an input without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestOtherRunsGoOn: one that is cancelled does not disturb the others on the connection.
func TestOtherRunsGoOn(t *testing.T) {
	release := make(chan struct{})
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(command string, s *fakeSession) {
			if command == "long" {
				<-release
				s.exit(0)
				return
			}
			stuck(command, s)
		}
	})
	client := host.dial(t)
	long := make(chan error, 1)
	go func() {
		_, err := client.Run(context.Background(), Request{Command: "long"})
		long <- err
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := client.Run(ctx, Request{Command: "stuck"})
	require.Error(t, err)
	close(release)
	require.NoError(t, <-long)
}

func TestSessionsAreLimited(t *testing.T) {
	host := newFakeHost(t, nil)
	client := host.dial(t)
	runMany(t, client, 40)
	require.LessOrEqual(t, host.most.Load(), int32(maxSessions))
}

// TestHostWithFewerSessions: refused sessions halve the limit, and nobody notices.
func TestHostWithFewerSessions(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.maxSessions = 4 })
	client := host.dial(t)
	errs := runSome(client, 8)
	var refused int
	for _, err := range errs {
		unreachable := &transport.UnreachableError{}
		if err != nil {
			require.ErrorAs(t, err, &unreachable)
			refused++
		}
	}
	require.Less(t, refused, 8)
	require.LessOrEqual(t, client.sessions.limit, 4)
	runMany(t, client, 20)
}

func runMany(t *testing.T, client *Client, count int) {
	t.Helper()
	for _, err := range runSome(client, count) {
		require.NoError(t, err)
	}
	require.Zero(t, client.sessions.used)
}

func runSome(client *Client, count int) []error {
	errs := make([]error, count)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			text := fmt.Sprint(i)
			result, err := client.Run(context.Background(), Request{Command: "echo", Stdin: strings.NewReader(text)})
			if err == nil && string(result.Stdout) != text {
				err = fmt.Errorf("%q came back as %q", text, result.Stdout)
			}
			errs[i] = err
		})
	}
	group.Wait()
	return errs
}

func TestWaitingForASessionEndsWithItsContext(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.handle = stuck })
	client := host.dial(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var group sync.WaitGroup
	for range maxSessions + 4 {
		group.Go(func() {
			if _, err := client.Run(ctx, Request{Command: "x"}); err == nil {
				t.Error("a stuck command ended")
			}
		})
	}
	group.Wait()
	require.Eventually(t, func() bool { return host.open.Load() == 0 }, 3*time.Second, 10*time.Millisecond)
}

// TestKeepAlive: a host that does not answer any more is noticed, and what waits for it is told.
func TestKeepAlive(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.handle = stuck })
	config := host.dialConfig()
	config.KeepAliveInterval, config.KeepAliveTimeout = 50*time.Millisecond, 100*time.Millisecond
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	time.Sleep(300 * time.Millisecond) // Several rounds, all answered.
	select {
	case <-client.Done():
		t.Fatal("a host that answers was given up")
	default:
	}
	host.muteRequests.Store(true)
	_, err = client.Run(context.Background(), Request{Command: "x"})
	lost := &transport.LostError{}
	require.ErrorAs(t, err, &lost)
	<-client.Done()
	require.NoError(t, client.Close())
	requireJoined(t)
}

// TestUnansweredCloseEndsTheConnection: what cannot be joined in time is joined
// by the keepalive that is asked for.
func TestUnansweredCloseEndsTheConnection(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.muteSessions.Store(true)
		h.muteRequests.Store(true)
	})
	config := host.dialConfig()
	config.KeepAliveTimeout = 100 * time.Millisecond
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = client.Run(ctx, Request{Command: "x"})
	require.Error(t, err)
	select {
	case <-client.Done():
	case <-time.After(2 * time.Second):
		t.Fatal("the connection was kept")
	}
	requireJoined(t)
}
