package fleettest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

var (
	ledger = machine.Service{Manager: machine.Systemd, Name: "ledger.service"}
	win    = machine.Service{Manager: machine.WindowsSCM, Name: "Orders"}
	me     = machine.Owner{Cluster: "c", UID: "u", Object: "shop/ledger"}
)

func put(path, content string) machine.PutFile {
	sum := sha256.Sum256([]byte(content))
	return machine.PutFile{Path: path, Content: machine.Secret(content), SHA256: hex.EncodeToString(sum[:])}
}

func connect(t *testing.T, h *fleettest.Host) machine.Machine {
	t.Helper()
	m, err := h.Connect(t.Context(), fleet.Endpoint{})
	require.NoError(t, err)
	return m
}

func begin(t *testing.T, m machine.Machine, id string, steps ...machine.Step) machine.JobState {
	t.Helper()
	state, err := m.Start(t.Context(), machine.Job{ID: id, Epoch: 1, Owner: me, Steps: steps, Timeout: time.Minute})
	require.NoError(t, err)
	return state
}

func TestALinuxServiceFromFileToRestart(t *testing.T) {
	h := fleettest.NewLinux()
	m := connect(t, h)
	unit := func() machine.UnitState { return h.Ask(machine.Unit{Name: ledger.Name}).(machine.UnitState) }
	assert.Equal(t, "not-found", unit().Load)
	state := begin(t, m, "a-1", machine.Claim{Subject: ledger.Subject(), Owner: me},
		put("/etc/systemd/system/ledger.service", "[Service]"), machine.ReloadUnits{}, machine.EnableUnit{Unit: ledger.Name},
		machine.StartService{Service: ledger, Hash: "h1"})
	assert.Equal(t, machine.JobSucceeded, state.Phase, state.Message)
	first := unit()
	assert.Equal(t, "active", first.Active)
	assert.Equal(t, "enabled", first.Enabled)
	assert.Equal(t, machine.MarkState{Exists: true, Owner: me, Started: "h1", Instance: first.Instance}, h.Ask(machine.Mark{Subject: ledger.Subject()}))

	effects := len(h.Journal())
	assert.Equal(t, state, begin(t, m, "a-1", machine.StopService{Service: ledger}), "a job is begun once")
	begin(t, m, "a-2", machine.EnableUnit{Unit: ledger.Name}, machine.StartService{Service: ledger, Hash: "h1"}, machine.Claim{Subject: ledger.Subject(), Owner: me})
	assert.Len(t, h.Journal(), effects, "what is so already is no effect")

	begin(t, m, "a-3", put("/etc/systemd/system/ledger.service", "[Service]\n#2"))
	assert.True(t, unit().NeedReload)
	begin(t, m, "a-4", machine.ReloadUnits{}, machine.RestartService{Service: ledger, Hash: "h2"})
	assert.NotEqual(t, first.Instance, unit().Instance)
	assert.False(t, unit().NeedReload)

	boot := h.Ask(machine.JobReceipt{ID: "a-4"}).(machine.JobState).BootID
	h.Reboot()
	assert.Equal(t, "active", unit().Active, "it is enabled")
	_, err := m.Observe(t.Context(), nil)
	require.Error(t, err, "a reboot ends connections")
	observed, err := connect(t, h).Observe(t.Context(), nil)
	require.NoError(t, err)
	assert.NotEqual(t, boot, observed.BootID)

	other := me
	other.UID = "somebody else"
	state = begin(t, connect(t, h), "a-5", machine.Claim{Subject: ledger.Subject(), Owner: other}, machine.StopService{Service: ledger})
	assert.Equal(t, machine.JobFailed, state.Phase)
	assert.Equal(t, 0, state.Step)
	assert.Zero(t, h.Effects("stop"))
}

func TestAWindowsService(t *testing.T) {
	h := fleettest.NewWindows()
	m := connect(t, h)
	service := func() machine.WindowsServiceState {
		return h.Ask(machine.WindowsService{Name: "orders"}).(machine.WindowsServiceState)
	}
	assert.False(t, service().Exists)
	path := `C:\Orders\orders.exe`
	state := begin(t, m, "a-1", put(path, "MZ"), machine.CreateWindowsService{Name: "Orders", BinaryPath: `"` + path + `" --service`, StartMode: "Manual"},
		machine.StartService{Service: win, Hash: "h1"})
	require.Equal(t, machine.JobSucceeded, state.Phase, state.Message)
	assert.Equal(t, "Running", service().State)
	assert.Equal(t, machine.JobFailed, begin(t, m, "a-2", put(path, "MZ2")).Phase, "the program of a running service is in use")
	assert.Equal(t, machine.JobFailed, begin(t, m, "a-3", machine.DeleteWindowsService{Name: "Orders"}).Phase)
	mode := "Automatic"
	state = begin(t, m, "a-4", machine.ChangeWindowsService{Name: "ORDERS", StartMode: &mode}, machine.StopService{Service: win}, put(path, "MZ2"),
		machine.StartService{Service: win, Hash: "h2"})
	assert.Equal(t, machine.JobSucceeded, state.Phase, state.Message)
	assert.Equal(t, "Automatic", service().StartMode)
	assert.IsType(t, machine.Problem{}, h.Ask(machine.Unit{Name: "x.service"}))
}

func TestAFailedStepEndsTheJobAndShowsNoSecret(t *testing.T) {
	h := fleettest.NewLinux()
	h.FailStep("ReloadUnits", "cannot reload canary-4711")
	state, err := connect(t, h).Start(t.Context(), machine.Job{
		ID: "a-1", Epoch: 1, Timeout: time.Minute, Secrets: []machine.Secret{machine.Secret("canary-4711")},
		Steps: []machine.Step{put("/etc/a", "x"), machine.ReloadUnits{}, put("/etc/b", "x")},
	})
	require.NoError(t, err)
	assert.Equal(t, machine.JobFailed, state.Phase)
	assert.Equal(t, 1, state.Step)
	assert.Equal(t, "cannot reload [redacted]", state.Message)
	assert.Equal(t, []string{"put /etc/a"}, h.Journal())
}

func TestAnInterruptedRestartHappensOnce(t *testing.T) {
	h := fleettest.NewLinux()
	h.AddUnit(ledger.Name, "[Service]")
	m := connect(t, h)
	begin(t, m, "a-1", machine.StartService{Service: ledger, Hash: "h1"})
	before := h.Ask(machine.Unit{Name: ledger.Name}).(machine.UnitState).Instance
	// As if the operator's script had ended between the restart and the second mark.
	h.SetMark(ledger.Subject(), machine.MarkState{Exists: true, Started: "h1", Instance: before, Pending: "h2", Before: before})
	h.Run(ledger)
	h.ClearJournal()
	begin(t, m, "a-2", machine.RestartService{Service: ledger, Hash: "h2"})
	assert.Empty(t, h.Journal())
	mark := h.Ask(machine.Mark{Subject: ledger.Subject()}).(machine.MarkState)
	assert.Equal(t, "h2", mark.Started)
	assert.Empty(t, mark.Pending)
}

// complaints stands in for a test that a fake would fail.
type complaints struct{ count int }

func (c *complaints) Helper()               {}
func (c *complaints) Errorf(string, ...any) { c.count++ }

func TestTheFakeFleetKeepsToTheContract(t *testing.T) {
	var c complaints
	f := fleettest.NewFleet(&c)
	host := fleet.HostKey{Namespace: "shop", Name: "web"}
	object := fleet.Object{Kind: "ExternalService", Key: fleet.HostKey{Namespace: "shop", Name: "orders"}}
	good := machine.Job{ID: "a-1", Timeout: time.Minute, Steps: []machine.Step{machine.ReloadUnits{}}}
	f.Watch(host, object, fleet.Watch{})
	f.Submit(host, object, good)
	f.Submit(host, object, good)
	assert.Zero(t, c.count)
	assert.Len(t, f.Submissions(), 1, "a job that is queued is not queued again")
	f.Finish(object, "a-1", machine.JobState{Phase: machine.JobSucceeded})
	view := f.View(host, object)
	assert.Empty(t, view.Queued)
	assert.Equal(t, machine.JobState{Phase: machine.JobSucceeded}, view.Answers[machine.JobReceipt{ID: "a-1"}])
	f.RefuseNext("the host is away")
	f.Submit(host, object, machine.Job{ID: "a-2", Timeout: time.Minute, Steps: good.Steps})
	assert.Equal(t, map[string]string{"a-2": "the host is away"}, f.View(host, object).JobErrors)
	for _, bad := range []machine.Job{
		{ID: "A_1", Timeout: time.Minute, Steps: good.Steps}, {ID: "a-3", Steps: good.Steps}, {ID: "a-4", Timeout: time.Minute},
		{ID: "a-5", Timeout: time.Minute, Steps: good.Steps, Epoch: 3},
	} {
		f.Submit(host, object, bad)
	}
	assert.Equal(t, 4, c.count)
}
