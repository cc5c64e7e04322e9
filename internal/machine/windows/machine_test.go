package windows

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

const orders = "Orders"

var (
	us       = machine.Owner{Cluster: "c1", UID: "u1", Object: "shop/orders"}
	them     = machine.Owner{Cluster: "c2", UID: "u2", Object: "other/orders"}
	service  = machine.Service{Manager: machine.WindowsSCM, Name: orders}
	config   = `C:\Orders\app.json`
	subject  = service.Subject()
	ownMark  = machine.Mark{Subject: subject}
	ownState = machine.WindowsService{Name: orders}
)

func job(id string, epoch int64, steps ...machine.Step) machine.Job {
	return machine.Job{ID: id, Epoch: epoch, Owner: us, Steps: steps, Timeout: 10 * time.Second}
}

func install(hash string) []machine.Step {
	return []machine.Step{
		machine.Claim{Subject: subject, Owner: us},
		put(config, "v1"),
		machine.CreateWindowsService{Name: orders, BinaryPath: `"C:\Orders\orders.exe" serve`, Description: "Takes orders", StartMode: automaticDelayed},
		machine.StartService{Service: service, Hash: hash},
	}
}

// must starts a job that has to succeed.
func must(t *testing.T, m *Machine, j machine.Job) machine.JobState {
	t.Helper()
	state, err := m.Start(t.Context(), j)
	if err != nil || state.Phase != machine.JobSucceeded {
		t.Fatalf("job %s: %+v, %v", j.ID, state, err)
	}
	return state
}

func observe(t *testing.T, m *Machine, checks ...machine.Check) machine.Observation {
	t.Helper()
	seen, err := m.Observe(t.Context(), checks)
	if err != nil {
		t.Fatal(err)
	}
	if len(seen.Answers) != len(checks) {
		t.Fatalf("%d answers to %d checks: %+v", len(seen.Answers), len(checks), seen.Answers)
	}
	return seen
}

func TestLifeOfAService(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	checks := []machine.Check{ownState, ownMark, machine.File{Path: config}, machine.JobReceipt{ID: "install-1"}, machine.Unit{Name: "x"}}
	seen := observe(t, m, checks...)
	want := map[machine.Check]machine.Answer{
		ownState: machine.WindowsServiceState{}, ownMark: machine.MarkState{},
		machine.File{Path: config}: machine.FileState{Kind: machine.FileAbsent}, machine.JobReceipt{ID: "install-1"}: machine.JobState{Phase: machine.JobAbsent},
		machine.Unit{Name: "x"}: seen.Answers[machine.Unit{Name: "x"}],
	}
	if !reflect.DeepEqual(seen.Answers, want) {
		t.Errorf("before: %+v", seen.Answers)
	}
	if problem, ok := seen.Answers[machine.Unit{Name: "x"}].(machine.Problem); !ok || problem.Reason != notSupported {
		t.Errorf("unit: %+v", seen.Answers[machine.Unit{Name: "x"}])
	}

	state := must(t, m, job("install-1", 1, install("h1")...))
	if state.Started == "" || state.Finished <= state.Started || state.Epoch != 1 || state.BootID != seen.BootID {
		t.Errorf("receipt %+v", state)
	}
	seen = observe(t, m, checks...)
	running := seen.Answers[ownState].(machine.WindowsServiceState)
	if running.State != "Running" || running.StartMode != automaticDelayed || running.Description != "Takes orders" ||
		running.DisplayName != orders || running.Instance != fmt.Sprintf("%d@%s", running.ProcessID, running.Since) {
		t.Errorf("service %+v", running)
	}
	mark := seen.Answers[ownMark].(machine.MarkState)
	if want := (machine.MarkState{Exists: true, Owner: us, Started: "h1", Instance: running.Instance}); mark != want {
		t.Errorf("mark %+v", mark)
	}
	if file := seen.Answers[machine.File{Path: config}].(machine.FileState); file.SHA256 != digest("v1") || file.Size != 2 || file.Kind != machine.FileRegular {
		t.Errorf("file %+v", file)
	}
	if receipt := seen.Answers[machine.JobReceipt{ID: "install-1"}]; receipt != state {
		t.Errorf("receipt reads %+v, was %+v", receipt, state)
	}

	must(t, m, job("update-1", 1, put(config, "v2"), machine.RestartService{Service: service, Hash: "h2"}))
	if h.count("stop Orders") != 1 || h.count("start Orders") != 2 {
		t.Errorf("effects %v", h.effects)
	}
	must(t, m, job("remove-1", 1, machine.StopService{Service: service}, machine.DeleteWindowsService{Name: orders},
		machine.RemoveFile{Path: config}, machine.Release{Subject: subject, Owner: us}))
	if err := m.Forget(t.Context(), []string{"install-1", "update-1", "remove-1", "unknown"}); err != nil {
		t.Fatal(err)
	}
	if left := h.disk.under(`C:\ProgramData`); len(left) != 0 {
		t.Errorf("left on the host: %v", left)
	}
}

func TestDirectoryIsNoFile(t *testing.T) {
	h := newFakeHost(t)
	h.disk.write(config, "x")
	check := machine.File{Path: `C:\ORDERS`}
	if got := observe(t, h.machine(), check).Answers[check]; got != (machine.FileState{Kind: machine.FileDirectory}) {
		t.Errorf("%+v", got)
	}
}

// An unchanged host costs five queries and starts no process.
func TestUnchangedHostStartsNothing(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("install-1", 1, install("h1")...))
	checks := []machine.Check{ownState, ownMark, machine.File{Path: config}, machine.JobReceipt{ID: "install-1"}}
	first := observe(t, m, checks...)
	before := h.callCount()
	second := observe(t, m, checks...)
	if !reflect.DeepEqual(first.Answers, second.Answers) {
		t.Errorf("answers changed: %+v", second.Answers)
	}
	for _, call := range h.calls[before:] {
		if !strings.HasPrefix(call, "query ") {
			t.Errorf("an unchanged host was told %q", call)
		}
	}
	if n := h.callCount() - before; n != 5 {
		t.Errorf("%d requests: %v", n, h.calls[before:])
	}
	h.disk.write(config, "edited by hand")
	scripts := h.scripts
	if file := observe(t, m, checks...).Answers[machine.File{Path: config}].(machine.FileState); file.SHA256 != digest("edited by hand") {
		t.Errorf("file %+v", file)
	}
	if h.scripts != scripts+1 {
		t.Errorf("%d starts of PowerShell for one changed file", h.scripts-scripts)
	}
}

func TestManyChecksAreFewRequests(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	var checks []machine.Check
	for i := range 100 {
		path := fmt.Sprintf(`C:\Files\%d.txt`, i)
		h.disk.write(path, path)
		checks = append(checks, machine.WindowsService{Name: fmt.Sprint("svc", i)}, machine.File{Path: path},
			machine.Mark{Subject: machine.Subject(path)}, machine.JobReceipt{ID: fmt.Sprint("job-", i)})
		h.disk.write(m.state.mark(machine.Subject(path)), `{"subject":"x","owner":{"cluster":"c1","uid":"u1","object":"o"}}`+"\r\n")
	}
	seen := observe(t, m, checks...)
	for i := range 100 {
		path := fmt.Sprintf(`C:\Files\%d.txt`, i)
		if seen.Answers[machine.File{Path: path}].(machine.FileState).SHA256 != digest(path) {
			t.Errorf("file %s: %+v", path, seen.Answers[machine.File{Path: path}])
		}
		if !seen.Answers[machine.Mark{Subject: machine.Subject(path)}].(machine.MarkState).Exists {
			t.Errorf("mark %s is missing", path)
		}
	}
	if n := h.callCount(); n > 20 {
		t.Errorf("%d requests: %v", n, h.calls)
	}
}

func TestFaultsAreProblems(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	h.fault["query Win32_Service"] = &winrm.Fault{Code: 5, Subcode: "w:AccessDenied", Text: "denied"}
	h.fault["query CIM_DataFile"] = &winrm.Fault{Code: 1, Subcode: "w:InternalError", Text: "broken"}
	seen := observe(t, m, ownState, machine.File{Path: config}, machine.File{Path: `no path`}, ownMark)
	for check, reason := range map[machine.Check]string{
		ownState: accessDenied, machine.File{Path: config}: failed, machine.File{Path: `no path`}: failed, ownMark: failed,
	} {
		if problem, ok := seen.Answers[check].(machine.Problem); !ok || problem.Reason != reason {
			t.Errorf("%v: %+v, want a Problem %s", check, seen.Answers[check], reason)
		}
	}
	clear(h.fault)
	h.breakAt = h.callCount() + 2
	var lost *transport.LostError
	if _, err := m.Observe(t.Context(), []machine.Check{ownState}); !errors.As(err, &lost) {
		t.Errorf("error %v, want a LostError", err)
	}
}

func TestInstantsDoNotDependOnTheOffset(t *testing.T) {
	if a, b := instant("2026-10-25T01:30:00.5+02:00"), instant("2026-10-25T00:30:00.5+01:00"); a != b || a != "2026-10-24T23:30:00.5Z" {
		t.Errorf("%s and %s", a, b)
	}
	if got := instant("something else"); got != "something else" {
		t.Error(got)
	}
}

func TestFacts(t *testing.T) {
	h := newFakeHost(t)
	facts, err := h.machine().Facts(t.Context())
	want := machine.Facts{Hostname: "ORDERS01", OSName: "Microsoft Windows Server 2022 Standard", OSVersion: "10.0.20348", Architecture: "amd64",
		InitSystem: "windows-scm", BootID: instant(h.boot.Format(time.RFC3339Nano)), CPUs: 4, MemoryBytes: 8 << 30}
	if err != nil || facts != want {
		t.Errorf("%+v, %v", facts, err)
	}
}

func TestClaimsExclude(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, machine.Claim{Subject: subject, Owner: us, Adopted: false}))
	must(t, m, job("b", 1, machine.Claim{Subject: subject, Owner: us, Adopted: true}))
	if mark := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState); mark.Adopted {
		t.Error("a repeated claim changed who was first")
	}
	other := machine.Mark{Subject: "windowsservice/ORDERS"}
	if mark := observe(t, m, other).Answers[other].(machine.MarkState); mark.Owner != us {
		t.Errorf("another spelling of the name: %+v", mark)
	}
	state, err := m.Start(t.Context(), job("c", 1, put(config, "x"), machine.Claim{Subject: subject, Owner: them}, put(config, "y")))
	if err != nil || state.Phase != machine.JobFailed || state.Step != 1 || !strings.Contains(state.Message, "shop/orders") || state.ExitCode != 1 {
		t.Errorf("%+v, %v", state, err)
	}
	must(t, m, job("d", 1, machine.Release{Subject: subject, Owner: them}))
	if mark := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState); mark.Owner != us {
		t.Error("somebody else released the claim")
	}
}

func TestTwoClaimsMeet(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	met := false
	h.hook = func(call string) {
		if strings.Contains(call, "ren ") && !met {
			met = true
			line, _ := cmdJSON(markFile{Subject: subject, Owner: ownerFile(them)})
			h.disk.write(m.state.mark(subject), line)
		}
	}
	state, err := m.Start(t.Context(), job("a", 1, machine.Claim{Subject: subject, Owner: us}))
	if err != nil || state.Phase != machine.JobFailed || !strings.Contains(state.Message, "other/orders") {
		t.Errorf("%+v, %v", state, err)
	}
	for _, name := range h.disk.under(`C:\ProgramData\isthmus\marks`) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("left: %s", name)
		}
	}
}

func TestStopWaitsForTheProcess(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	s := h.services["orders"]
	s.pending, s.lingers = 3, 5
	must(t, m, job("b", 1, machine.StopService{Service: service}))
	if s.pid != 0 {
		t.Error("the job ended before the process")
	}
	must(t, m, job("c", 1, machine.StopService{Service: service}))
	if n := h.count("stop Orders"); n != 1 {
		t.Errorf("stopped %d times", n)
	}
}

func TestPendingStatesAreWaitedFor(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")[:3]...))
	s := h.services["orders"]
	s.state, s.next, s.pending, s.pid, s.created = startPending, running, 3, 77, h.boot
	must(t, m, job("b", 1, machine.StartService{Service: service, Hash: "h1"}))
	if n := h.count("start Orders"); n != 0 {
		t.Errorf("a service that was starting was started %d times", n)
	}
	if mark := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState); mark.Started != "" {
		t.Errorf("somebody else's start was claimed: %+v", mark)
	}
	must(t, m, job("c", 1, machine.RecordStart{Service: service, Hash: "h1"}))
	if mark := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState); mark.Started != "h1" {
		t.Errorf("mark %+v", mark)
	}
}

func TestServiceThatDoesNotStayUp(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")[:3]...))
	h.services["orders"].crashes = true
	state, err := m.Start(t.Context(), job("b", 1, machine.StartService{Service: service, Hash: "h1"}))
	if err != nil || state.Phase != machine.JobFailed || !strings.Contains(state.Message, "did not stay up") {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestDeletionIsWaitedFor(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")[:3]...))
	s := h.services["orders"]
	s.held = 4
	must(t, m, job("b", 1, machine.DeleteWindowsService{Name: orders}))
	if h.services["orders"] != nil {
		t.Error("the job ended before the service was gone")
	}
	must(t, m, job("c", 1, machine.DeleteWindowsService{Name: orders}))
	must(t, m, job("d", 1, install("h1")...))
	state, err := m.Start(t.Context(), job("e", 1, machine.DeleteWindowsService{Name: orders}))
	if err != nil || state.Phase != machine.JobFailed || h.services["orders"] == nil {
		t.Errorf("a running service was deleted: %+v, %v", state, err)
	}
}

// A program that holds a deleted service open may do so for days. The job ends and
// says so, and the next one finds the service marked already.
func TestAServiceThatIsHeldOpenEndsTheJob(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")[:3]...))
	h.services["orders"].held = 1 << 30
	m.held = 20 * time.Millisecond
	const want = "is marked for deletion and has been there for another 20ms: a program on the host holds it open"
	for _, id := range []string{"b", "c"} {
		state, err := m.Start(t.Context(), job(id, 1, machine.DeleteWindowsService{Name: orders}))
		if err != nil || state.Phase != machine.JobFailed || !strings.Contains(state.Message, want) {
			t.Errorf("delete: %+v, %v", state, err)
		}
	}
	if deletions := strings.Count(strings.Join(h.effects, "\n"), "delete "); deletions != 1 {
		t.Errorf("deleted %d times: %v", deletions, h.effects)
	}
	h.services["orders"].held = 0
	must(t, m, job("d", 1, machine.DeleteWindowsService{Name: orders}))
}

// A job that waits for a service goes on after Start has lost its patience.
func TestStartIsNotHeldUpByASlowService(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")[:3]...))
	h.services["orders"].held = 300
	m.poll, m.patient = time.Millisecond, time.Millisecond
	state, err := m.Start(t.Context(), job("b", 1, machine.DeleteWindowsService{Name: orders}))
	if err != nil || state.Phase != machine.JobRunning {
		t.Fatalf("%+v, %v", state, err)
	}
	m.background.Wait()
	check := machine.JobReceipt{ID: "b"}
	if got := observe(t, m, check).Answers[check].(machine.JobState); got.Phase != machine.JobSucceeded || h.services["orders"] != nil {
		t.Errorf("%+v", got)
	}
}

func TestChangeTouchesWhatDiffers(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	text := func(s string) *string { return &s }
	before := len(h.effects)
	same := machine.ChangeWindowsService{Name: orders, DisplayName: text(orders), Description: text("Takes orders"),
		BinaryPath: text(`"C:\Orders\orders.exe" serve`), StartMode: text(automaticDelayed)}
	must(t, m, job("b", 1, same))
	if len(h.effects) != before {
		t.Errorf("nothing differs, and yet: %v", h.effects[before:])
	}
	for i, mode := range []string{automatic, manual, automaticDelayed, disabled, automatic} {
		must(t, m, job(fmt.Sprint("mode-", i), 1, machine.ChangeWindowsService{Name: orders, StartMode: text(mode), Description: text("")}))
		state := observe(t, m, ownState).Answers[ownState].(machine.WindowsServiceState)
		if state.StartMode != mode || state.Description != "" || state.DisplayName != orders {
			t.Errorf("%s: %+v", mode, state)
		}
	}
	state, err := m.Start(t.Context(), job("z", 1, machine.ChangeWindowsService{Name: orders, StartMode: text("Boot")}))
	if err != nil || state.Phase != machine.JobFailed {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestFileInUse(t *testing.T) {
	h := newFakeHost(t)
	h.disk.locked[key(config)] = true
	state, err := h.machine().Start(t.Context(), job("a", 1, put(config, "x")))
	if err != nil || state.Phase != machine.JobFailed || !strings.Contains(state.Message, "InUse") {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestReturnValues(t *testing.T) {
	for value := uint32(1); value <= 24; value++ {
		err := returned(winrm.Instance{"ReturnValue": {fmt.Sprint(value)}}, "StopService", orders)
		var typed *ReturnValueError
		if !errors.As(err, &typed) || typed.Value != value || strings.Contains(err.Error(), "unknown reason") {
			t.Errorf("%d: %v", value, err)
		}
	}
	if err := returned(winrm.Instance{"ReturnValue": {"0"}}, "StopService", orders); err != nil {
		t.Error(err)
	}
	for _, output := range []winrm.Instance{{}, {"ReturnValue": nil}, {"ReturnValue": {"99"}}, {"ReturnValue": {"x"}}} {
		if err := returned(output, "StopService", orders); err == nil {
			t.Errorf("%v: no error", output)
		}
	}
}

// The scripts are data of the protocol with the host: a change is to be seen.
func TestScriptsAreGolden(t *testing.T) {
	versions := map[string]string{"deliver": "v2", "hash": "v1", "ends": "v1"}
	for name, script := range map[string]string{"deliver": deliverScript, "hash": hashScript, "ends": endsScript} {
		line := encodedCommand(script)
		golden := "testdata/" + name + ".cmdline"
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, []byte(line+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if line+"\n" != string(want) {
			t.Errorf("%s differs from %s (UPDATE_GOLDEN=1 writes it)", name, golden)
		}
		if len(line) >= maxLine {
			t.Errorf("%s makes a line of %d characters", name, len(line))
		}
		if first := strings.SplitN(script, "\n", 2)[0]; first != "# isthmus:"+name+" "+versions[name] {
			t.Errorf("%s begins with %q", name, first)
		}
		if strings.ContainsFunc(script, func(r rune) bool { return r > 0x7e }) {
			t.Errorf("%s is not ASCII", name)
		}
	}
}

// A receipt must not tell of the end of a job together with a state from before it.
func TestReceiptsAreReadBeforeStates(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	from := h.callCount()
	observe(t, m, ownState, machine.File{Path: config}, machine.JobReceipt{ID: "a"})
	var order []string
	for _, call := range h.calls[from:] {
		order = append(order, strings.Fields(call)[1])
	}
	want := []string{"Win32_OperatingSystem", "CIM_DataFile", "echo", "CIM_DataFile", "#", "Win32_Service", "Win32_Process"}
	if !slices.Equal(order, want) {
		t.Errorf("asked in the order %v", order)
	}
}
