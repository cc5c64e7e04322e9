package fleet

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// closing is a machine that says when it was closed.
type closing struct {
	machine.Machine
	closed chan struct{}
}

func (c closing) Close() error {
	close(c.closed)
	return nil
}

// TestANewConnectionThatFailsAsTheFleetEndsIsClosed: the link does not know of it yet.
func TestANewConnectionThatFailsAsTheFleetEndsIsClosed(t *testing.T) {
	l := linkWithSecrets()
	ctx, cancel := context.WithCancel(context.Background())
	l.fleet.work.open(ctx)
	cancel()
	m := closing{closed: make(chan struct{})}
	l.endPass(l.generation, finding{conn: &connection{work: &l.fleet.work, machine: m, holds: 1}, err: errors.New("reset")})
	select {
	case <-m.closed:
	case <-time.After(10 * time.Second):
		require.Fail(t, "it is open")
	}
}
