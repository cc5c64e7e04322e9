package posix

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
)

// debian is a machine with systemd, and our way to it: as a user who becomes root.
type debian struct {
	*linuxhost.Machine
	network *network.Network
	private []byte
}

func (d *debian) dial(t *testing.T, user string) *ssh.Client {
	t.Helper()
	return d.dialWith(t, user, 20*time.Second)
}

// dialWith gives up the connection when the machine is silent for so long.
func (d *debian) dialWith(t *testing.T, user string, silent time.Duration) *ssh.Client {
	t.Helper()
	keys, err := d.HostKeys(testContext(t))
	require.NoError(t, err)
	client, err := ssh.Dial(testContext(t), ssh.Config{
		Address: d.Address().String() + ":22", User: user, HostKeys: keys, PrivateKey: d.private,
		KeepAliveInterval: time.Second, KeepAliveTimeout: silent,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (d *debian) connect(t *testing.T) *Machine {
	t.Helper()
	return New(d.dial(t, "ops"), Options{Become: &Become{User: "root"}, LoginUser: "ops"})
}

func (d *debian) sh(t *testing.T, format string, arguments ...any) string {
	t.Helper()
	out, err := d.Run(testContext(t), "/bin/sh", "-c", fmt.Sprintf(format, arguments...))
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// TestSystemd boots one machine and asks everything of it. The subtests build upon each other.
func TestSystemd(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	t.Cleanup(cancel)
	j := newJanitor(t)
	n, err := network.New(ctx, j)
	require.NoError(t, err)
	host, err := linuxhost.Start(ctx, linuxhost.Options{Name: "ledger", Network: n, Janitor: j, Dir: t.TempDir(), Progress: t.Output()})
	require.NoError(t, err)
	private, public := newKey(t)
	d := &debian{host, n, private}
	require.NoError(t, host.Authorize(ctx, "ops", public))

	require.NoError(t, host.AllowSudo(ctx, "ops", linuxhost.WithPassword))
	t.Run("sudo wants a password", func(t *testing.T) { testSudoRefused(t, d) })
	require.NoError(t, host.AllowSudo(ctx, "ops", linuxhost.Denied))
	t.Run("sudo denied", func(t *testing.T) { testSudoRefused(t, d) })
	t.Run("sudo with a password", func(t *testing.T) { testSudoWithPassword(t, d) })
	require.NoError(t, host.AllowSudo(ctx, "ops", linuxhost.NoPassword))
	t.Run("facts", func(t *testing.T) { testFacts(t, d) })
	t.Run("create", func(t *testing.T) { testCreateUnit(t, d) })
	t.Run("restart", func(t *testing.T) { testRestartOnce(t, d) })
	t.Run("marks", func(t *testing.T) { testRecordAndStop(t, d) })
	t.Run("failing unit", func(t *testing.T) { testFailingUnit(t, d) })
	t.Run("owners", func(t *testing.T) { testOwners(t, d) })
	t.Run("units that are not there", func(t *testing.T) { testNoUnits(t, d) })
	t.Run("pace", func(t *testing.T) { testPace(t, d) })
	t.Run("time out", func(t *testing.T) { testTimeoutOnSystemd(t, d) })
	t.Run("cancel", func(t *testing.T) { testCancelOnSystemd(t, d) })
	t.Run("abandoned", func(t *testing.T) { testAbandoned(t, d) })
	t.Run("cut off", func(t *testing.T) { testCutOff(t, d) })
	t.Run("reboot", func(t *testing.T) { testReboot(t, d) })
	t.Run("stale leader", func(t *testing.T) { testStaleOnSystemd(t, d) })
	t.Run("remove", func(t *testing.T) { testRemoveUnit(t, d) })
}

func testSudoRefused(t *testing.T, d *debian) {
	_, err := d.connect(t).Observe(testContext(t), []machine.Check{machine.File{Path: "/etc/passwd"}})
	refused := &transport.CredentialsError{}
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "ops", refused.User)
	require.ErrorContains(t, err, "(sudo -n -u root: sudo: ")
	t.Log(err)
}

func testFacts(t *testing.T, d *debian) {
	facts, err := d.connect(t).Facts(testContext(t))
	require.NoError(t, err)
	bootID, err := d.BootID(testContext(t))
	require.NoError(t, err)
	require.Equal(t, bootID, facts.BootID)
	require.Equal(t, "ledger", facts.Hostname)
	require.Equal(t, "12", facts.OSVersion)
	require.Equal(t, "systemd", facts.InitSystem)
	require.True(t, strings.HasPrefix(facts.OSName, "Debian GNU/Linux 12"), facts.OSName)
}

var ledger = machine.Service{Manager: machine.Systemd, Name: "ledger.service"}

const ledgerUnit = `[Unit]
Description=A ledger
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'echo start >>/var/tmp/starts; sleep 0.5; systemd-notify --ready; exec sleep infinity'
[Install]
WantedBy=multi-user.target
`

func unitOf(t *testing.T, m *Machine, name string) machine.UnitState {
	t.Helper()
	return observe(t, m, machine.Unit{Name: name}).(machine.UnitState)
}

func markOf(t *testing.T, m *Machine) machine.MarkState {
	t.Helper()
	return observe(t, m, machine.Mark{Subject: ledger.Subject()}).(machine.MarkState)
}

func (d *debian) starts(t *testing.T) int {
	t.Helper()
	return strings.Count(d.sh(t, "cat /var/tmp/starts"), "start")
}

func testCreateUnit(t *testing.T, d *debian) {
	m := d.connect(t)
	require.Equal(t, machine.UnitState{Load: "not-found", Active: "inactive", Sub: "dead", Result: "success"}, unitOf(t, m, "ledger.service"))
	require.Equal(t, machine.MarkState{}, markOf(t, m))
	job := testJob("create",
		machine.Claim{Subject: ledger.Subject(), Owner: owner},
		machine.PutFile{Path: "/etc/systemd/system/ledger.service", Content: machine.Secret(ledgerUnit), Mode: 0o644},
		machine.ReloadUnits{},
		machine.EnableUnit{Unit: "ledger.service"},
		machine.StartService{Service: ledger, Hash: "sha256:one"},
	)
	state := start(t, m, job)
	if state.Phase == machine.JobRunning {
		t.Log("the job took more than two seconds")
	}
	state = await(t, m, "create", state)
	require.Equal(t, machine.JobSucceeded, state.Phase, "%+v", state)
	unit := unitOf(t, m, "ledger.service")
	require.Equal(t, "loaded/active/running/enabled/success", strings.Join([]string{unit.Load, unit.Active, unit.Sub, unit.Enabled, unit.Result}, "/"))
	require.Equal(t, "/etc/systemd/system/ledger.service", unit.Fragment)
	require.Positive(t, unit.MainPID)
	require.False(t, unit.NeedReload)
	require.Len(t, unit.Instance, 32)
	since, err := time.Parse(time.RFC3339, unit.Since)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), since, time.Minute)
	require.Equal(t, machine.MarkState{Exists: true, Owner: owner, Started: "sha256:one", Instance: unit.Instance}, markOf(t, m))
	require.Equal(t, 1, d.starts(t))

	job.ID = "create-again"
	succeed(t, m, job)
	require.Equal(t, 1, d.starts(t), "a service that runs is not started")
	require.Equal(t, unit.Instance, markOf(t, m).Instance)
	require.Contains(t, d.sh(t, "journalctl --no-pager -u isthmus-job-create.service"), "Isthmus job create")
}

func testRestartOnce(t *testing.T, d *debian) {
	m := d.connect(t)
	before := unitOf(t, m, "ledger.service").Instance
	succeed(t, m, testJob("restart", machine.RestartService{Service: ledger, Hash: "sha256:two"}))
	unit := unitOf(t, m, "ledger.service")
	require.NotEqual(t, before, unit.Instance)
	require.Equal(t, machine.MarkState{Exists: true, Owner: owner, Started: "sha256:two", Instance: unit.Instance}, markOf(t, m))
	require.Equal(t, 2, d.starts(t))

	// The job died between the restart and the mark: only the mark is behind.
	d.setMark(t, "started sha256:one", "instance "+before, "pending sha256:two", "before "+before)
	require.Equal(t, machine.MarkState{
		Exists: true, Owner: owner, Started: "sha256:one", Instance: before, Pending: "sha256:two", Before: before,
	}, markOf(t, m))
	succeed(t, m, testJob("restart-behind", machine.RestartService{Service: ledger, Hash: "sha256:two"}))
	require.Equal(t, 2, d.starts(t), "what has happened does not happen again")
	require.Equal(t, machine.MarkState{Exists: true, Owner: owner, Started: "sha256:two", Instance: unit.Instance}, markOf(t, m))

	// The job died between the mark and the restart: it has not happened.
	d.setMark(t, "pending sha256:three", "before "+unit.Instance)
	succeed(t, m, testJob("restart-not-yet", machine.RestartService{Service: ledger, Hash: "sha256:three"}))
	require.Equal(t, 3, d.starts(t))
	require.Equal(t, "sha256:three", markOf(t, m).Started)

	// A restart for another hash was pending: this one is still wanted.
	d.setMark(t, "pending sha256:other", "before "+unit.Instance)
	succeed(t, m, testJob("restart-other", machine.RestartService{Service: ledger, Hash: "sha256:four"}))
	require.Equal(t, 4, d.starts(t))

	// Somebody else restarts it: the mark tells by the instance.
	d.sh(t, "systemctl restart ledger.service")
	require.NotEqual(t, markOf(t, m).Instance, unitOf(t, m, "ledger.service").Instance)
}

// setMark writes lines into the ledger's mark, as a job that died would have left it.
func (d *debian) setMark(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		key, _, _ := strings.Cut(line, " ")
		d.sh(t, "sed -i 's/^%s .*/%s/' /var/lib/isthmus/marks/%s", key, line, markName(ledger.Subject()))
	}
}

func testRecordAndStop(t *testing.T, d *debian) {
	m := d.connect(t)
	starts := d.starts(t)
	succeed(t, m, testJob("record", machine.RecordStart{Service: ledger, Hash: "sha256:five"}))
	unit := unitOf(t, m, "ledger.service")
	require.Equal(t, machine.MarkState{Exists: true, Owner: owner, Started: "sha256:five", Instance: unit.Instance}, markOf(t, m))
	require.Equal(t, starts, d.starts(t))

	succeed(t, m, testJob("stop", machine.StopService{Service: ledger}))
	stopped := unitOf(t, m, "ledger.service")
	require.Equal(t, "inactive", stopped.Active)
	require.Empty(t, stopped.Since)
	require.Equal(t, "gone", d.sh(t, "[ -e /proc/%d ] || echo gone", unit.MainPID))
	succeed(t, m, testJob("stop-again", machine.StopService{Service: ledger}))
	state := finish(t, m, testJob("record-stopped", machine.RecordStart{Service: ledger, Hash: "sha256:six"}))
	require.Equal(t, machine.JobFailed, state.Phase)
	require.Equal(t, "ledger.service does not run: it is inactive", state.Message)

	succeed(t, m, testJob("start", machine.StartService{Service: ledger, Hash: "sha256:seven"}))
	require.Equal(t, starts+1, d.starts(t))
	require.Equal(t, unitOf(t, m, "ledger.service").Instance, markOf(t, m).Instance)
	// A pending state is waited for: the unit takes half a second to be active.
	d.sh(t, "systemctl restart --no-block ledger.service")
	succeed(t, m, testJob("record-pending", machine.RecordStart{Service: ledger, Hash: "sha256:eight"}))
	require.Equal(t, unitOf(t, m, "ledger.service").Instance, markOf(t, m).Instance)
}

func testFailingUnit(t *testing.T, d *debian) {
	m := d.connect(t)
	broken := machine.Service{Manager: machine.Systemd, Name: "broken.service"}
	job := testJob("broken",
		machine.PutFile{Path: "/etc/systemd/system/broken.service", Content: machine.Secret("[Service]\nType=oneshot\nExecStart=/bin/false\n")},
		machine.ReloadUnits{},
		machine.StartService{Service: broken, Hash: "h"},
	)
	state := finish(t, m, job)
	require.Equal(t, machine.JobFailed, state.Phase)
	require.Equal(t, 2, state.Step)
	require.Contains(t, state.Message, "systemctl start broken.service failed")
	unit := unitOf(t, m, "broken.service")
	require.Equal(t, "failed", unit.Active)
	require.Equal(t, "exit-code", unit.Result)
	// systemd calls a program that ends at once started, and keeps a start waiting
	// while it waits itself before a restart.
	for i, unit := range []string{"ExecStart=/bin/false\nRestart=always\nRestartSec=1h\n", "ExecStart=/bin/true\n", "ExecStart=/bin/false\n"} {
		for _, attempt := range []string{"first", "second"} {
			state = finish(t, m, testJob(fmt.Sprintf("broken-%d-%s", i, attempt),
				machine.PutFile{Path: "/etc/systemd/system/broken.service", Content: machine.Secret("[Service]\n" + unit)},
				machine.ReloadUnits{},
				machine.StartService{Service: broken, Hash: "h"},
			))
			require.Equal(t, machine.JobFailed, state.Phase, unit)
			require.Contains(t, state.Message, "broken.service did not stay up: it is ", unit)
		}
		succeed(t, m, testJob(fmt.Sprintf("broken-%d-stop", i), machine.StopService{Service: broken}))
	}
	// Repaired, it starts, whatever start limit it ran into.
	d.sh(t, "for i in 1 2 3 4 5 6; do systemctl start broken.service; done; true")
	succeed(t, m, testJob("repaired",
		machine.PutFile{Path: "/etc/systemd/system/broken.service", Content: machine.Secret("[Service]\nExecStart=/bin/sleep infinity\n")},
		machine.ReloadUnits{},
		machine.StartService{Service: broken, Hash: "h2"},
	))
	require.Equal(t, "active", unitOf(t, m, "broken.service").Active)
	succeed(t, m, testJob("broken-gone",
		machine.StopService{Service: broken},
		machine.RemoveFile{Path: "/etc/systemd/system/broken.service"},
		machine.ReloadUnits{},
		machine.StopService{Service: broken},
	))
	require.Equal(t, "not-found", unitOf(t, m, "broken.service").Load)
}

func testOwners(t *testing.T, d *debian) {
	m := d.connect(t)
	other := machine.Owner{Cluster: "c-2", UID: "u-2", Object: "other/ledger"}
	state := finish(t, m, testJob("claim-other", machine.Claim{Subject: ledger.Subject(), Owner: other}))
	require.Equal(t, machine.JobFailed, state.Phase)
	require.Equal(t, "systemd/ledger.service is managed by shop/ledger (UID u-1) of cluster c-1", state.Message)
	before := markOf(t, m)
	succeed(t, m, testJob("release-other", machine.Release{Subject: ledger.Subject(), Owner: other}))
	require.Equal(t, before, markOf(t, m))
	succeed(t, m, testJob("claim-again", machine.Claim{Subject: ledger.Subject(), Owner: owner, Adopted: true}))
	require.Equal(t, before, markOf(t, m), "the first claim knows best")
}

func testNoUnits(t *testing.T, d *debian) {
	m := d.connect(t)
	observation, err := m.Observe(testContext(t), []machine.Check{
		machine.Unit{Name: "ledger.service"}, machine.Unit{Name: "a b"}, machine.Unit{Name: "getty@.service"},
		machine.Unit{Name: "no-such.service"}, machine.Unit{Name: "getty@tty1.service"}, machine.Unit{Name: "-.mount"},
	})
	require.NoError(t, err)
	require.Equal(t, "active", observation.Answers[machine.Unit{Name: "ledger.service"}].(machine.UnitState).Active)
	require.Equal(t, "not-found", observation.Answers[machine.Unit{Name: "no-such.service"}].(machine.UnitState).Load)
	require.IsType(t, machine.UnitState{}, observation.Answers[machine.Unit{Name: "getty@tty1.service"}])
	require.Equal(t, "active", observation.Answers[machine.Unit{Name: "-.mount"}].(machine.UnitState).Active)
	require.IsType(t, machine.Problem{}, observation.Answers[machine.Unit{Name: "a b"}])
	require.IsType(t, machine.Problem{}, observation.Answers[machine.Unit{Name: "getty@.service"}])
}

// testPace tells what a pass over four unchanged things takes, through sudo.
func testPace(t *testing.T, d *debian) {
	m := d.connect(t)
	checks := []machine.Check{
		machine.File{Path: "/etc/systemd/system/ledger.service"}, machine.Unit{Name: "ledger.service"},
		machine.Mark{Subject: ledger.Subject()}, machine.JobReceipt{ID: "create"},
	}
	for _, pass := range []string{"first", "unsettled"} {
		_, err := m.Observe(testContext(t), checks)
		require.NoError(t, err, pass)
		time.Sleep(settleTime)
	}
	var times []time.Duration
	for range 100 {
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		times = append(times, observation.Took)
	}
	slices.Sort(times)
	t.Logf("four checks: median %v, fastest %v", times[50], times[0])
}

// slow is a unit whose start never ends.
const slowUnit = "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n"

var slow = machine.Service{Manager: machine.Systemd, Name: "slow.service"}

func slowJob(id string, timeout time.Duration) machine.Job {
	job := testJob(id,
		machine.PutFile{Path: "/etc/systemd/system/slow.service", Content: machine.Secret(slowUnit)},
		machine.ReloadUnits{},
		machine.StartService{Service: slow, Hash: "h"},
	)
	job.Timeout = timeout
	return job
}

func testTimeoutOnSystemd(t *testing.T, d *debian) {
	m := d.connect(t)
	state := await(t, m, "slow", start(t, m, slowJob("slow", 15*time.Second)))
	require.Equal(t, machine.JobFailed, state.Phase)
	require.Equal(t, 124, state.ExitCode)
	require.Equal(t, 2, state.Step)
	d.sh(t, "systemctl stop slow.service")
	require.Equal(t, "inactive", d.sh(t, "systemctl is-active isthmus-job-slow.service || true"))
}

// testCutOff: the network goes while a job runs. The job and its receipt stay.
func testCutOff(t *testing.T, d *debian) {
	client := d.dialWith(t, "ops", time.Second)
	m := New(client, Options{Become: &Become{User: "root"}})
	require.Equal(t, machine.JobRunning, start(t, m, slowJob("cut-off", 5*time.Minute)).Phase)
	require.NoError(t, d.network.Cut(testContext(t), d.Address()))
	_, err := m.Observe(testContext(t), nil)
	lost := &transport.LostError{}
	require.ErrorAs(t, err, &lost)
	<-client.Done()
	require.NoError(t, d.network.Heal(testContext(t), d.Address()))
	// Every process of every session is killed, and the server with them; the job is in none.
	d.sh(t, "systemctl kill --kill-who=all --signal=KILL ssh.service; systemctl reset-failed ssh.service; systemctl restart ssh.service")
	require.NoError(t, d.WaitReady(testContext(t)))
	again := d.connect(t)
	require.Equal(t, machine.JobRunning, receipt(t, again, "cut-off").Phase)
	require.Equal(t, machine.JobRunning, start(t, again, slowJob("cut-off", 5*time.Minute)).Phase)
}

func testReboot(t *testing.T, d *debian) {
	before, err := d.BootID(testContext(t))
	require.NoError(t, err)
	script := testJob("script", machine.RunScript{Text: machine.Secret("echo once >>/var/tmp/effects; sleep 1000")})
	script.Timeout = 5 * time.Minute
	require.Equal(t, machine.JobRunning, start(t, d.connect(t), script).Phase)
	require.NoError(t, d.Reboot(testContext(t)))
	m := d.connect(t)
	state := receipt(t, m, "cut-off")
	require.Equal(t, machine.JobLost, state.Phase)
	require.Equal(t, before, state.BootID)
	require.Equal(t, machine.JobLost, receipt(t, m, "script").Phase)
	require.Equal(t, machine.JobLost, start(t, m, script).Phase, "what may not be repeated is not")
	require.Equal(t, "once", d.sh(t, "cat /var/tmp/effects"))
	unit := unitOf(t, m, "ledger.service")
	require.Equal(t, "active", unit.Active, "it is enabled")
	require.NotEqual(t, markOf(t, m).Instance, unit.Instance)
	require.Equal(t, "sha256:eight", markOf(t, m).Started)
}

func testStaleOnSystemd(t *testing.T, d *debian) {
	m := d.connect(t)
	next := testJob("next", machine.ReloadUnits{})
	next.Epoch = 2
	succeed(t, m, next)
	_, err := m.Start(testContext(t), testJob("frozen", machine.ReloadUnits{}))
	stale := &machine.StaleLeaderError{}
	require.ErrorAs(t, err, &stale)
	require.Equal(t, machine.JobAbsent, receipt(t, m, "frozen").Phase)
}

func testRemoveUnit(t *testing.T, d *debian) {
	m := d.connect(t)
	job := testJob("remove",
		machine.StopService{Service: ledger},
		machine.DisableUnit{Unit: "ledger.service"},
		machine.RemoveFile{Path: "/etc/systemd/system/ledger.service"},
		machine.RemoveFile{Path: "/etc/systemd/system/slow.service"},
		machine.ReloadUnits{},
		machine.Release{Subject: ledger.Subject(), Owner: owner},
		machine.Release{Subject: slow.Subject(), Owner: owner},
		machine.Release{Subject: "systemd/broken.service", Owner: owner},
	)
	job.Epoch = 2
	succeed(t, m, job)
	require.Equal(t, "not-found", unitOf(t, m, "ledger.service").Load)
	ids := strings.Fields(d.sh(t, "ls /var/lib/isthmus/jobs"))
	require.NoError(t, m.Forget(testContext(t), ids))
	require.Equal(t, "gone", d.sh(t, "[ -e /var/lib/isthmus ] || echo gone"))
}
