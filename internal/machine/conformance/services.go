package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// testServices: a real host has its own services, so there is one that is never started.
func testServices(t *testing.T, s *suite) {
	if s.System == Windows {
		s.windowsService(t)
		return
	}
	facts, err := s.first.Facts(limited(t))
	require.NoError(t, err)
	if facts.InitSystem != "systemd" {
		t.Skip("the host has no systemd")
	}
	root := see[machine.UnitState](t, s.first, machine.Unit{Name: "-.mount"})
	require.Equal(t, "loaded/active/mounted", root.Load+"/"+root.Active+"/"+root.Sub)
	none := see[machine.UnitState](t, s.first, machine.Unit{Name: "isthmus-conformance-none.service"})
	require.Equal(t, "not-found/inactive", none.Load+"/"+none.Active)
	require.Empty(t, none.Instance)
}

const serviceName = "IsthmusConformance"

func (s *suite) windowsService(t *testing.T) {
	check := machine.WindowsService{Name: serviceName}
	if see[machine.WindowsServiceState](t, s.first, check).Exists {
		s.succeed(t, machine.DeleteWindowsService{Name: serviceName})
	}
	t.Cleanup(func() { s.succeed(t, machine.DeleteWindowsService{Name: serviceName}) })
	create := machine.CreateWindowsService{
		Name: serviceName, DisplayName: "Isthmus & conformance", Description: `100% of "it" <ü>`,
		BinaryPath: `"C:\Program Files\Isthmus\none.exe" -x`, StartMode: "Manual",
	}
	s.succeed(t, create)
	s.succeed(t, create)
	state := see[machine.WindowsServiceState](t, s.second, machine.WindowsService{Name: "isthmusCONFORMANCE"})
	require.Equal(t, machine.WindowsServiceState{
		Exists: true, State: "Stopped", StartMode: "Manual", DisplayName: create.DisplayName, Description: create.Description,
		BinaryPath: create.BinaryPath, Account: state.Account, ExitCode: state.ExitCode,
	}, state)
	require.Equal(t, "LocalSystem", state.Account)

	for _, mode := range []string{"Automatic", "AutomaticDelayed", "Disabled", "Manual"} {
		display := "in mode " + mode
		s.succeed(t, machine.ChangeWindowsService{Name: serviceName, StartMode: &mode, DisplayName: &display})
		state = see[machine.WindowsServiceState](t, s.first, check)
		require.Equal(t, mode+display+create.BinaryPath, state.StartMode+state.DisplayName+state.BinaryPath)
	}
	failed := s.fail(t, machine.StartService{Service: machine.Service{Manager: machine.WindowsSCM, Name: serviceName}, Hash: "h"})
	require.NotEmpty(t, failed.Message, "there is no such program")
	s.succeed(t, machine.DeleteWindowsService{Name: serviceName})
	require.False(t, see[machine.WindowsServiceState](t, s.second, check).Exists)
	s.succeed(t, machine.DeleteWindowsService{Name: serviceName})
}
