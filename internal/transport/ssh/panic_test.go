package ssh

import (
	"context"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/defect"
)

type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("odd content") }

// TestPanicOfWhomRunServes: it ends that session; the connection serves others.
func TestPanicOfWhomRunServes(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.handle = func(command string, s *fakeSession) {
			if command == "echo" {
				_, _ = io.Copy(s, s)
				s.exit(0)
				return
			}
			_, _ = io.WriteString(s, "out")
			_, _ = io.WriteString(s.Stderr(), "err")
			if command == "short" {
				s.exit(0)
				return
			}
			_, _ = io.Copy(io.Discard, s)
			<-t.Context().Done()
		}
	})
	client := host.dial(t)
	odd := func([]byte) { panic("odd answer") }
	for name, request := range map[string]Request{
		"stdout": {Command: "long", OnStdout: odd}, "stderr": {Command: "long", OnStderr: odd}, "stdin": {Command: "long", Stdin: panickingReader{}},
		"a command that has ended": {Command: "short", OnStdout: odd},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := client.Run(ctx, request)
		require.NoError(t, ctx.Err(), name)
		cancel()
		panicked := &defect.PanicError{}
		require.ErrorAs(t, err, &panicked, name)
		require.NotEmpty(t, panicked.Stack)
	}
	echo(t, client)
}

// TestPanicOnTheWayToAJump: all who wait for it are told.
func TestPanicOnTheWayToAJump(t *testing.T) {
	pool := newTestPool(t)
	config := via(newFakeHost(t, nil), newFakeHost(t, nil))
	config.Jump.Control = func(string, string, syscall.RawConn) error { panic("odd address") }
	_, err := pool.Dial(context.Background(), config)
	panicked := &defect.PanicError{}
	require.ErrorAs(t, err, &panicked)
}

// TestPanicOverAHostKey: the library checks keys in a goroutine of its own.
func TestPanicOverAHostKey(t *testing.T) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(newFakeHost(t, nil).hostKey()))
	require.NoError(t, err)
	identity := &verifier{pins: pins{keys: []ssh.PublicKey{nil}}}
	panicked := &defect.PanicError{}
	require.ErrorAs(t, identity.check("", nil, key), &panicked)
}
