package service_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

func TestOrderOfCreation(t *testing.T) {
	require.Equal(t, []string{
		"claim file//etc/orders.conf", "claim systemd/orders.service",
		"put /etc/orders.conf", "put /etc/systemd/system/orders.service",
		"reload units", "enable orders.service", "start systemd/orders.service",
	}, linux(t).converge(ledger()))
}

func TestUnsetIsNotManaged(t *testing.T) {
	r := linux(t)
	r.host.AddUnit(unit, "[Service]\n")
	r.host.Run(ordersUnit)
	r.host.Put(config, fleettest.File{Content: []byte("x"), Mode: 0o600, Owner: "orders", Group: "orders"})
	spec := v1alpha1.ExternalServiceSpec{
		Files:   []v1alpha1.File{{Path: config, Content: pointer("x")}},
		Systemd: &v1alpha1.Systemd{Unit: unit},
		State:   v1alpha1.StateUnmanaged,
	}
	require.Equal(t, []string{"claim file//etc/orders.conf", "claim systemd/orders.service"}, r.converge(spec))
}

func TestAttributesOfFiles(t *testing.T) {
	r := linux(t)
	spec := v1alpha1.ExternalServiceSpec{Files: []v1alpha1.File{{Path: config, Content: pointer("x"), Mode: "0640", Owner: "orders", Group: "adm"}}}
	r.converge(spec)
	require.Equal(t, machine.FileState{Kind: machine.FileRegular, SHA256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
		Size: 1, Mode: 0o640, Owner: "orders", Group: "adm"}, r.host.Ask(machine.File{Path: config}))
	for name, file := range map[string]fleettest.File{
		"mode":  {Content: []byte("x"), Mode: 0o644, Owner: "orders", Group: "adm"},
		"owner": {Content: []byte("x"), Mode: 0o640, Owner: "root", Group: "adm"},
		"group": {Content: []byte("x"), Mode: 0o640, Owner: "orders", Group: "root"},
	} {
		r.host.Put(config, file)
		plan := r.plan(spec)
		require.Len(t, plan.Changes, 1, name)
		require.Equal(t, "files[/etc/orders.conf]."+name, plan.Changes[0].Path)
		require.Equal(t, []string{"put /etc/orders.conf"}, r.converge(spec))
	}
}

func TestAttributesDoNotRestart(t *testing.T) {
	r := linux(t)
	spec := ledger()
	spec.Files[0].Mode = "0640"
	r.converge(spec)
	r.host.Put(config, fleettest.File{Content: []byte("port=1\n"), Mode: 0o600})
	require.Equal(t, []string{"put /etc/orders.conf"}, r.converge(spec))
}

func TestOneRestartForManyChanges(t *testing.T) {
	r := linux(t)
	spec := ledger()
	spec.Files = append(spec.Files, v1alpha1.File{Path: "/etc/orders.two", Content: pointer("a"), RestartOnChange: true})
	r.converge(spec)
	spec.Files[0].Content, spec.Files[1].Content = pointer("port=2\n"), pointer("b")
	spec.Systemd.Definition = pointer(definition + "# two\n")
	r.converge(spec)
	require.Equal(t, 1, r.host.Effects("restart"))
	require.Equal(t, 1, r.host.Effects("reload"))
	require.Zero(t, r.host.Effects("start"))
}

func TestEditedDefinitionIsPutBackAndRestarts(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	r.host.Put(unitPath, fleettest.File{Content: []byte("[Service]\nExecStart=/bin/evil\n")})
	require.Equal(t, []string{"put /etc/systemd/system/orders.service", "reload units", "restart systemd/orders.service"}, r.converge(ledger()))
}

func TestRestartOnlyForWhatAsksForIt(t *testing.T) {
	r := linux(t)
	spec := ledger()
	spec.Files = append(spec.Files, v1alpha1.File{Path: "/etc/motd", Content: pointer("a")})
	r.converge(spec)
	spec.Files[1].Content = pointer("b")
	require.Equal(t, []string{"put /etc/motd"}, r.converge(spec))
}

func TestRestartOnlyIfItShouldRun(t *testing.T) {
	for _, state := range []v1alpha1.ServiceState{v1alpha1.StateStopped, v1alpha1.StateUnmanaged} {
		r := linux(t)
		spec := ledger()
		r.converge(spec)
		spec.State = state
		spec.Files[0].Content = pointer("port=2\n")
		r.converge(spec)
		require.Zero(t, r.host.Effects("restart"), state)
		require.Zero(t, r.host.Effects("start"), state)
	}
}

func TestStartSupersedesRestart(t *testing.T) {
	r := linux(t)
	spec := ledger()
	r.converge(spec)
	r.host.Kill(ordersUnit)
	spec.Files[0].Content = pointer("port=2\n")
	require.Equal(t, []string{"put /etc/orders.conf", "start systemd/orders.service"}, r.converge(spec))
}

// A job that ends between the change and the restart must not lose the restart.
func TestRestartIsNotLost(t *testing.T) {
	cases := map[string]struct {
		fails  string
		change func(r *rig, spec *v1alpha1.ExternalServiceSpec)
	}{
		"changed spec": {"EnableUnit", func(_ *rig, s *v1alpha1.ExternalServiceSpec) { s.Files[0].Content = pointer("port=2\n") }},
		"drift": {"EnableUnit", func(r *rig, _ *v1alpha1.ExternalServiceSpec) {
			r.host.Put(config, fleettest.File{Content: []byte("evil")})
		}},
		"changed definition": {"ReloadUnits", func(_ *rig, s *v1alpha1.ExternalServiceSpec) { s.Systemd.Definition = pointer(definition + "#\n") }},
		"restarted by others before": {"EnableUnit", func(r *rig, s *v1alpha1.ExternalServiceSpec) {
			r.host.Run(ordersUnit)
			s.Files[0].Content = pointer("port=2\n")
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := linux(t)
			spec := ledger()
			spec.Systemd.Enabled = pointer(false)
			r.converge(spec)
			spec.Systemd.Enabled = pointer(true)
			c.change(r, &spec)
			r.host.FailStep(c.fails, "no")
			require.Equal(t, machine.JobFailed, r.do(r.plan(spec)).Phase)
			require.Zero(t, r.host.Effects("restart"))
			r.converge(spec)
			require.Equal(t, 1, r.host.Effects("restart"))
		})
	}
}

func TestOutOfBandRestartNeedsNoSecondOne(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	r.host.Run(ordersUnit)
	require.Empty(t, r.plan(ledger()).Steps)
}

// Records on the host or in the API can be lost; nothing is restarted for that.
func TestLostRecordsRestartNothing(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	r.inventory = nil
	require.Empty(t, r.plan(ledger()).Steps, "status lost")
	r.host.SetMark(ordersUnit.Subject(), machine.MarkState{})
	plan := r.plan(ledger())
	require.Empty(t, plan.Changes)
	require.Equal(t, []string{"claim systemd/orders.service"}, r.converge(ledger()))
}

func TestPendingStartOfAnotherHash(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	now := r.host.Ask(machine.Unit{Name: unit}).(machine.UnitState)
	mark := machine.MarkState{Exists: true, Owner: us, Started: "old", Instance: "earlier", Pending: "older", Before: "earlier"}
	require.NotEqual(t, "earlier", now.Instance)
	r.host.SetMark(ordersUnit.Subject(), mark)
	r.converge(ledger())
	require.Equal(t, 1, r.host.Effects("restart"), "the pending start happened, with another hash")

	mark.Pending = r.compile(ledger()).StartHash
	r.host.SetMark(ordersUnit.Subject(), mark)
	require.Empty(t, r.plan(ledger()).Steps, "the pending start happened, with the right hash")

	mark.Before = r.host.Ask(machine.Unit{Name: unit}).(machine.UnitState).Instance
	mark.Instance = mark.Before
	r.host.SetMark(ordersUnit.Subject(), mark)
	r.converge(ledger())
	require.Equal(t, 1, r.host.Effects("restart"), "the pending start did not happen")
}

func TestPendingStatesAreWaitedFor(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	desired := r.compile(ledger())
	stopped := ledger()
	stopped.State = v1alpha1.StateStopped
	cases := []struct {
		name, active string
		spec         v1alpha1.ExternalServiceSpec
		steps        []machine.Step
		waiting      bool
	}{
		{"starts", "activating", ledger(), nil, true},
		{"stops, should run", "deactivating", ledger(), nil, true},
		{"stops", "deactivating", stopped, nil, true},
		{"restarts for ever, should be stopped", "activating", stopped, []machine.Step{machine.StopService{Service: ordersUnit}}, false},
	}
	for _, c := range cases {
		seen := r.see(service.Checks(desired, r.inventory))
		state := seen.Answers[machine.Unit{Name: unit}].(machine.UnitState)
		state.Active = c.active
		seen.Answers[machine.Unit{Name: unit}] = state
		plan := service.NewPlan(r.compile(c.spec), seen)
		require.Equal(t, c.steps, plan.Steps, c.name)
		require.Equal(t, c.waiting, plan.Waiting != "", c.name)
	}
}

// A service that fails because of its configuration must get the better one while it is restarted for ever.
func TestPendingStateDoesNotHoldBackTheCure(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	spec := ledger()
	spec.Files[0].Content = pointer("port=2\n")
	desired := r.compile(spec)
	seen := r.see(service.Checks(desired, r.inventory))
	state := seen.Answers[machine.Unit{Name: unit}].(machine.UnitState)
	state.Active, state.Sub = "activating", "auto-restart"
	seen.Answers[machine.Unit{Name: unit}] = state
	steps := service.NewPlan(desired, seen).Steps
	require.Len(t, steps, 2)
	require.IsType(t, machine.PutFile{}, steps[0])
	require.Equal(t, machine.RestartService{Service: ordersUnit, Hash: desired.StartHash}, steps[1])
}

func TestNeedReload(t *testing.T) {
	r := linux(t)
	r.host.AddUnit(unit, "[Service]\n")
	spec := v1alpha1.ExternalServiceSpec{Systemd: &v1alpha1.Systemd{Unit: unit}, State: v1alpha1.StateRunning}
	r.converge(spec)
	r.host.AddUnit(unit, "[Service]\n# updated by its package\n")
	require.Equal(t, []string{"reload units"}, r.converge(spec))
}

func TestStoppedIsHeld(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	spec := ledger()
	spec.State = v1alpha1.StateStopped
	require.Equal(t, []string{"stop systemd/orders.service"}, r.converge(spec))
	r.host.Run(ordersUnit)
	require.Equal(t, []string{"stop systemd/orders.service"}, r.converge(spec))
	r.host.Kill(ordersUnit)
	require.Empty(t, r.converge(spec), "failed is stopped")
}

func TestEnabled(t *testing.T) {
	r := linux(t)
	spec := ledger()
	r.converge(spec)
	spec.Systemd.Enabled = pointer(false)
	require.Equal(t, []string{"disable orders.service"}, r.converge(spec))
	spec.Systemd.Enabled = nil
	require.Empty(t, r.converge(spec), "unset is not managed")
}

func TestWhatBlocksAUnit(t *testing.T) {
	stateOnly := v1alpha1.ExternalServiceSpec{Systemd: &v1alpha1.Systemd{Unit: unit}, State: v1alpha1.StateRunning}
	enabled := v1alpha1.ExternalServiceSpec{Systemd: &v1alpha1.Systemd{Unit: unit, Enabled: pointer(true)}, State: v1alpha1.StateStopped}
	cases := map[string]struct {
		spec  v1alpha1.ExternalServiceSpec
		state machine.UnitState
		want  string
	}{
		"not installed": {stateOnly, machine.UnitState{Load: "not-found", Active: "inactive"}, "spec.systemd.definition"},
		"masked":        {stateOnly, machine.UnitState{Load: "masked", Active: "inactive"}, "unmask"},
		"static":        {enabled, machine.UnitState{Load: "loaded", Active: "inactive", Enabled: "static"}, "[Install]"},
	}
	for name, c := range cases {
		r := linux(t)
		desired := r.compile(c.spec)
		seen := r.see(service.Checks(desired, nil))
		seen.Answers[machine.Unit{Name: unit}] = c.state
		plan := service.NewPlan(desired, seen)
		require.Contains(t, plan.Blocked, c.want, name)
		require.Empty(t, plan.Steps, name)
	}
}

func TestDirectoryInTheWay(t *testing.T) {
	r := linux(t)
	r.host.Put(config, fleettest.File{Kind: machine.FileDirectory})
	plan := r.plan(ledger())
	require.Contains(t, plan.Blocked, "directory")
	require.Empty(t, plan.Steps)
}

func TestUnknownIsNotAbsent(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	checks := service.Checks(r.compile(ledger()), r.inventory)
	for _, check := range checks {
		r.host.SetProblem(check, machine.Problem{Reason: "AccessDenied", Message: "permission denied"})
		plan := r.plan(ledger())
		require.Empty(t, plan.Steps, "%#v", check)
		require.Contains(t, plan.Unknown, "permission denied", "%#v", check)
		r.host.SetProblem(check, machine.Problem{})
	}
	r.host.Kill(ordersUnit)
	r.host.SetProblem(machine.File{Path: config}, machine.Problem{Reason: "AccessDenied", Message: "permission denied"})
	require.Empty(t, r.plan(ledger()).Steps, "nor is anything else done while a part is unknown")
	plan := service.NewPlan(r.compile(ledger()), service.Observation{})
	require.Empty(t, plan.Steps)
	require.NotEmpty(t, plan.Unknown)
}

func TestHealthAndObservedState(t *testing.T) {
	desired := linux(t).compile(ledger())
	cases := []struct {
		state  machine.UnitState
		word   string
		health service.HealthState
	}{
		{machine.UnitState{Load: "loaded", Active: "active", Result: "success"}, service.Running, service.Healthy},
		{machine.UnitState{Load: "loaded", Active: "reloading", Result: "success"}, service.Running, service.Healthy},
		{machine.UnitState{Load: "loaded", Active: "failed", Result: "exit-code"}, service.Failed, service.Unhealthy},
		{machine.UnitState{Load: "loaded", Active: "inactive", Result: "success"}, service.Stopped, service.Unhealthy},
		{machine.UnitState{Load: "loaded", Active: "activating", Result: "success"}, service.Starting, service.HealthPending},
		{machine.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart", Result: "exit-code"}, service.Starting, service.Unhealthy},
		{machine.UnitState{Load: "loaded", Active: "deactivating", Result: "success"}, service.Stopping, service.HealthPending},
		{machine.UnitState{Load: "not-found", Active: "inactive"}, service.Absent, service.Unhealthy},
	}
	for _, c := range cases {
		answers := map[machine.Check]machine.Answer{machine.Unit{Name: unit}: c.state}
		require.Equal(t, c.word, service.Observe(desired, answers).State, "%+v", c.state)
		health, _ := service.Health(desired, answers)
		require.Equal(t, c.health, health, "%+v", c.state)
	}
	health, _ := service.Health(desired, nil)
	require.Equal(t, service.HealthUnknown, health)
	require.Nil(t, service.Observe(desired, nil))
}
