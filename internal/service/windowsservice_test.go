package service_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

func TestWindowsCreation(t *testing.T) {
	require.Equal(t, []string{
		`claim file/c:\orders\orders.exe`, "claim windowsservice/orders", `put C:\Orders\orders.exe`,
		"create windowsservice/Orders", "start windowsservice/orders",
	}, windows(t).converge(orders()))
}

func TestOwnProgramIsReplacedWhileStopped(t *testing.T) {
	r := windows(t)
	r.converge(orders())
	spec := orders()
	spec.Files[0].Content = pointer("MZ two")
	require.Equal(t, []string{"stop windowsservice/orders", `put C:\Orders\orders.exe`, "start windowsservice/orders"}, r.converge(spec))

	spec.Files[0].Content = pointer("MZ three")
	spec.State = v1alpha1.StateStopped
	require.Equal(t, []string{"stop windowsservice/orders", `put C:\Orders\orders.exe`}, r.converge(spec))

	spec.Files[0].Content = pointer("MZ four")
	spec.State = v1alpha1.StateRunning
	require.Equal(t, []string{`put C:\Orders\orders.exe`, "start windowsservice/orders"}, r.converge(spec))

	spec.Files[0].Content = pointer("MZ five")
	spec.State = v1alpha1.StateUnmanaged
	require.Contains(t, r.plan(spec).Blocked, "Unmanaged")
}

func TestOwnProgramIsFoundInAnySpelling(t *testing.T) {
	r := windows(t)
	r.converge(orders())
	spec := orders()
	spec.Files[0].Path = `c:\orders\ORDERS.EXE`
	spec.Files[0].Content = pointer("MZ two")
	// The model's file system tells upper from lower case, so only the plan is looked at.
	seen := r.see(service.Checks(r.compile(spec), r.inventory))
	seen.Answers[machine.File{Path: spec.Files[0].Path}] = r.host.Ask(machine.File{Path: program})
	plan := service.NewPlan(r.compile(spec), seen)
	require.Len(t, plan.Steps, 3)
	require.Equal(t, machine.StopService{Service: ordersService}, plan.Steps[0])
	require.IsType(t, machine.PutFile{}, plan.Steps[1])
	require.IsType(t, machine.StartService{}, plan.Steps[2])
	require.Len(t, plan.Inventory, 2, "the same file in another spelling is the same thing")
}

func TestOwnProgramWaitsForPendingStates(t *testing.T) {
	for _, state := range []string{"Start Pending", "Stop Pending"} {
		r := windows(t)
		r.converge(orders())
		spec := orders()
		spec.Files[0].Content = pointer("MZ two")
		desired := r.compile(spec)
		seen := r.see(service.Checks(desired, r.inventory))
		pending := seen.Answers[machine.WindowsService{Name: "orders"}].(machine.WindowsServiceState)
		pending.State = state
		seen.Answers[machine.WindowsService{Name: "orders"}] = pending
		plan := service.NewPlan(desired, seen)
		require.Empty(t, plan.Steps, state)
		require.NotEmpty(t, plan.Waiting, state)
	}
}

func TestWindowsPendingStatesAreWaitedFor(t *testing.T) {
	r := windows(t)
	r.converge(orders())
	for _, state := range []string{"Start Pending", "Stop Pending", "Continue Pending", "Pause Pending"} {
		for _, want := range []v1alpha1.ServiceState{v1alpha1.StateRunning, v1alpha1.StateStopped} {
			spec := orders()
			spec.State = want
			desired := r.compile(spec)
			seen := r.see(service.Checks(desired, r.inventory))
			pending := seen.Answers[machine.WindowsService{Name: "orders"}].(machine.WindowsServiceState)
			pending.State = state
			seen.Answers[machine.WindowsService{Name: "orders"}] = pending
			plan := service.NewPlan(desired, seen)
			require.Empty(t, plan.Steps, "%s, %s", state, want)
			require.NotEmpty(t, plan.Waiting, "%s, %s", state, want)
		}
	}
}

func TestWindowsChanges(t *testing.T) {
	r := windows(t)
	r.converge(orders())
	spec := orders()
	spec.WindowsService.Description = pointer("takes orders")
	spec.WindowsService.StartMode = "Manual"
	require.Equal(t, []string{"change windowsservice/Orders"}, r.converge(spec), "neither needs a restart")

	spec.WindowsService.Description = nil
	require.Empty(t, r.converge(spec), "unset is not managed")
	spec.WindowsService.Description = pointer("")
	require.Equal(t, []string{"change windowsservice/Orders"}, r.converge(spec), "empty is removed")

	spec.WindowsService.BinaryPath = pointer(`"C:\Orders\orders.exe" --service --verbose`)
	require.Equal(t, []string{"change windowsservice/Orders", "restart windowsservice/orders"}, r.converge(spec))
	spec.WindowsService.BinaryPath = pointer(`"c:\orders\ORDERS.exe" --service --verbose`)
	require.Empty(t, r.plan(spec).Changes, "Windows does not tell upper from lower case in a path")
	spec.WindowsService.BinaryPath = pointer(`"C:\Orders\orders.exe" --service --VERBOSE`)
	require.NotEmpty(t, r.plan(spec).Changes, "but programs do in their arguments")
}

func TestPausedIsResumed(t *testing.T) {
	r := windows(t)
	r.converge(orders())
	desired := r.compile(orders())
	seen := r.see(service.Checks(desired, r.inventory))
	paused := seen.Answers[machine.WindowsService{Name: "orders"}].(machine.WindowsServiceState)
	paused.State = "Paused"
	seen.Answers[machine.WindowsService{Name: "orders"}] = paused
	require.Equal(t, []machine.Step{machine.StartService{Service: ordersService, Hash: desired.StartHash}}, service.NewPlan(desired, seen).Steps)
}

func TestWindowsServiceOfOthers(t *testing.T) {
	r := windows(t)
	spec := orders()
	spec.Files = nil
	spec.WindowsService.BinaryPath = nil
	require.Contains(t, r.plan(spec).Blocked, "binaryPath")
	r.host.AddWindowsService(machine.CreateWindowsService{Name: "ORDERS", BinaryPath: `C:\x.exe`, StartMode: "Manual"})
	require.Equal(t, []string{"claim windowsservice/orders", "change windowsservice/Orders", "start windowsservice/orders"}, r.converge(spec))
	r.host.ClearJournal()
	r.do(r.removal(v1alpha1.DeletionDelete))
	require.Equal(t, []string{"stop windowsservice/orders", "release windowsservice/orders"}, r.host.Journal(), "what was not made is not deleted")
}

func TestWindowsHealth(t *testing.T) {
	desired := windows(t).compile(orders())
	cases := []struct {
		state  machine.WindowsServiceState
		word   string
		health service.HealthState
	}{
		{machine.WindowsServiceState{Exists: true, State: "Running"}, service.Running, service.Healthy},
		{machine.WindowsServiceState{Exists: true, State: "Stopped"}, service.Stopped, service.Unhealthy},
		{machine.WindowsServiceState{Exists: true, State: "Stopped", ExitCode: 1077}, service.Stopped, service.Unhealthy},
		{machine.WindowsServiceState{Exists: true, State: "Stopped", ExitCode: 1067}, service.Failed, service.Unhealthy},
		{machine.WindowsServiceState{Exists: true, State: "Start Pending"}, service.Starting, service.HealthPending},
		{machine.WindowsServiceState{Exists: true, State: "Stop Pending"}, service.Stopping, service.HealthPending},
		{machine.WindowsServiceState{Exists: true, State: "Paused"}, "Paused", service.Unhealthy},
		{machine.WindowsServiceState{}, service.Absent, service.Unhealthy},
	}
	for _, c := range cases {
		answers := map[machine.Check]machine.Answer{machine.WindowsService{Name: "orders"}: c.state}
		require.Equal(t, c.word, service.Observe(desired, answers).State)
		health, _ := service.Health(desired, answers)
		require.Equal(t, c.health, health, "%+v", c.state)
	}
}
