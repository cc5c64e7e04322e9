package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

func testFacts(t *testing.T, s *suite) {
	facts, err := s.first.Facts(limited(t))
	require.NoError(t, err)
	require.NotEmpty(t, facts.Hostname)
	require.NotEmpty(t, facts.OSName)
	require.NotEmpty(t, facts.BootID)
	require.Contains(t, []string{"amd64", "arm64", "386", "arm", "ppc64le", "riscv64", "s390x"}, facts.Architecture)
	require.Positive(t, facts.CPUs)
	require.Greater(t, facts.MemoryBytes, int64(64<<20))
	if s.System == Windows {
		require.Equal(t, "windows-scm", facts.InitSystem)
		require.NotEmpty(t, facts.OSVersion)
	} else {
		require.NotEmpty(t, facts.Kernel)
	}

	again, err := s.second.Facts(limited(t))
	require.NoError(t, err)
	require.Equal(t, facts.BootID, again.BootID, "two connections see one boot")
	observation, err := s.first.Observe(limited(t), nil)
	require.NoError(t, err)
	require.Equal(t, facts.BootID, observation.BootID)
	require.Positive(t, observation.Took)
}

// testUnsupported: questions and steps of the other kind of host are answered, and nothing else suffers.
func testUnsupported(t *testing.T, s *suite) {
	there := s.path("there")
	s.succeed(t, put(there, "x"))
	foreign, step := machine.Check(machine.WindowsService{Name: "Isthmus"}), machine.Step(machine.DeleteWindowsService{Name: "IsthmusConformance"})
	if s.System == Windows {
		foreign, step = machine.Unit{Name: "isthmus.service"}, machine.ReloadUnits{}
	}
	relative, file := machine.File{Path: "relative"}, machine.File{Path: there}
	observation, err := s.first.Observe(limited(t), []machine.Check{foreign, relative, file, file})
	require.NoError(t, err)
	require.Len(t, observation.Answers, 3)
	require.IsType(t, machine.Problem{}, observation.Answers[foreign])
	require.IsType(t, machine.Problem{}, observation.Answers[relative])
	require.Equal(t, digest("x"), observation.Answers[file].(machine.FileState).SHA256)

	job := s.job(put(s.path("before-foreign"), "x"), step)
	state, err := s.first.Start(limited(t), job)
	if err == nil {
		state = await(t, s.first, job.ID, state)
		require.Equal(t, machine.JobFailed, state.Phase, "%+v", state)
	}
}
