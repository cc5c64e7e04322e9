package ssh

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// blocked is an input that has nothing to say until its context ends.
type blocked struct {
	ctx   context.Context
	first string
	ended chan struct{}
}

func newBlocked(ctx context.Context, first string) *blocked {
	return &blocked{ctx, first, make(chan struct{})}
}

func (b *blocked) Read(p []byte) (int, error) {
	if b.first != "" {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	<-b.ctx.Done()
	close(b.ended)
	return 0, io.EOF
}

// TestConversation: what is said on stderr decides what is answered on stdin, while the command runs.
func TestConversation(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) {
			_, _ = io.WriteString(s.Stderr(), "pass")
			_, _ = io.WriteString(s.Stderr(), "word?")
			answer := make([]byte, 6)
			_, _ = io.ReadFull(s, answer)
			_, _ = s.Write(answer)
			s.exit(0)
		}
	})
	reader, writer := io.Pipe()
	var heard bytes.Buffer
	var asked atomic.Bool
	result, err := host.dial(t).Run(context.Background(), Request{
		Command: "x", Stdin: reader, MaxStderr: 2,
		OnStderr: func(chunk []byte) {
			heard.Write(chunk)
			if strings.HasSuffix(heard.String(), "password?") && asked.CompareAndSwap(false, true) {
				go func() { _, _ = writer.Write([]byte("sesame")) }()
			}
		},
	})
	require.NoError(t, err)
	require.Equal(t, "sesame", string(result.Stdout))
	require.Equal(t, "password?", heard.String(), "the tap sees all of it")
	require.True(t, result.Truncated)
	require.NoError(t, writer.Close())
	requireJoined(t, "ssh.(*session)")
}

// TestBlockedStdin: a command that ends does not wait for an input that does not,
// its place is free at once, and the input's reader ends with its context.
func TestBlockedStdin(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(_ string, s *fakeSession) { s.exit(7) }
	})
	client := host.dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 3 * maxSessions {
		stdin := newBlocked(ctx, "hello")
		began := time.Now()
		result, err := client.Run(ctx, Request{Command: "x", Stdin: stdin})
		require.NoError(t, err)
		require.Equal(t, 7, result.ExitCode)
		require.Less(t, time.Since(began), closeTime)
	}
	require.Zero(t, client.sessions.used)
	cancel()
	requireJoined(t, "ssh.(*session)")
}

// TestBlockedStdinOfACancelledRun ends with the request.
func TestBlockedStdinOfACancelledRun(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.handle = stuck })
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	stdin := newBlocked(ctx, "")
	_, err := host.dial(t).Run(ctx, Request{Command: "x", Stdin: stdin})
	lost := &transport.LostError{}
	require.ErrorAs(t, err, &lost)
	select {
	case <-stdin.ended:
	case <-time.After(2 * time.Second):
		t.Fatal("the reader is still blocked")
	}
	requireJoined(t, "ssh.(*session)")
}

// TestNoTapAfterRun: output that comes when Run has ended is nobody's.
func TestNoTapAfterRun(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.muteClose.Store(true)
		h.handle = func(_ string, s *fakeSession) {
			for {
				if _, err := io.WriteString(s, "more"); err != nil {
					return
				}
				if _, err := io.WriteString(s.Stderr(), "more"); err != nil {
					return
				}
			}
		}
	})
	client := host.dial(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var returned atomic.Bool
	var calls, late atomic.Int64
	count := func([]byte) {
		calls.Add(1)
		if returned.Load() {
			late.Add(1)
		}
	}
	_, err := client.Run(ctx, Request{Command: "x", OnStdout: count, OnStderr: count})
	returned.Store(true)
	require.Error(t, err)
	require.Positive(t, calls.Load())
	time.Sleep(200 * time.Millisecond)
	require.Zero(t, late.Load())
}
