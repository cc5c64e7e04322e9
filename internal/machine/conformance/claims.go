package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// testClaims: a thing has one manager, and only that one gives it up.
func testClaims(t *testing.T, s *suite) {
	subject := machine.Subject("file/" + s.path("claimed & größe"))
	mark := machine.Mark{Subject: subject}
	require.Equal(t, machine.MarkState{}, see[machine.MarkState](t, s.first, mark))

	s.succeed(t, machine.Claim{Subject: subject, Owner: owner, Adopted: true})
	claimed := machine.MarkState{Exists: true, Owner: owner, Adopted: true}
	require.Equal(t, claimed, see[machine.MarkState](t, s.second, mark))
	s.succeed(t, machine.Claim{Subject: subject, Owner: owner, Adopted: true})

	path := s.path("not-by-a-stranger")
	refused := s.fail(t, machine.Claim{Subject: subject, Owner: stranger}, put(path, "x"))
	require.Contains(t, refused.Message, owner.Object, "a person has to learn who manages it")
	require.Equal(t, 0, refused.Step)
	s.absent(t, path)

	s.end(t, s.job(machine.Release{Subject: subject, Owner: stranger}))
	require.Equal(t, claimed, see[machine.MarkState](t, s.second, mark), "a stranger has released it")

	s.succeed(t, machine.Release{Subject: subject, Owner: owner})
	require.Equal(t, machine.MarkState{}, see[machine.MarkState](t, s.second, mark))
	s.succeed(t, machine.Release{Subject: subject, Owner: owner})
	s.succeed(t, machine.Claim{Subject: subject, Owner: stranger}, machine.Release{Subject: subject, Owner: stranger})
}
