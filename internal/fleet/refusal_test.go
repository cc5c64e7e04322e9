package fleet

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// TestWhatIsInFlightDoesNotBringARefusedLinkBack: a job is refused while a pass
// beside it is on its way; the pass is answered, and must not make the link go on.
func TestWhatIsInFlightDoesNotBringARefusedLinkBack(t *testing.T) {
	for state, refusal := range map[State]error{
		CredentialsRefused: &transport.CredentialsError{Method: "sudo", User: "deploy"},
		Fenced:             &machine.StaleLeaderError{Epoch: 7, Seen: 8},
	} {
		f := New(Options{Connect: func(context.Context, Endpoint) (machine.Machine, error) { panic("a new attempt") }})
		f.work.open(t.Context())
		l := f.link(types.NamespacedName{Name: "host"})
		l.endpoint.Version = "v1"
		inFlight := l.generation
		l.fail(refusal, nil)
		l.endPass(inFlight, finding{})
		assert.Equal(t, state, l.status.State)
		assert.True(t, l.nextPass.IsZero(), "another attempt is planned")
	}
}
