package windows_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/windows"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/cim"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/orders"
)

const (
	programPath = `C:\Program Files\Orders\orders.exe`
	configPath  = `C:\Orders\orders.json`
	stateDir    = `C:\ProgramData\isthmus`
)

var (
	owner    = machine.Owner{Cluster: "c1", UID: "u1", Object: "shop/orders"}
	ordersOf = machine.Service{Manager: machine.WindowsSCM, Name: "Orders"}
	state    = machine.WindowsService{Name: "orders"}
	mark     = machine.Mark{Subject: ordersOf.Subject()}
)

// bed is the host that the tests of this file share, one after the other.
type bed struct {
	host    *windowshost.Host
	program []byte
	port    int
	epoch   int64
	jobs    int
}

func TestConformance(t *testing.T) {
	b := boot(t)
	t.Run("Facts", b.facts)
	t.Run("LifeOfAService", b.life)
	t.Run("WrongPassword", b.wrongPassword)
	t.Run("StaleEpoch", b.staleEpoch)
	t.Run("DeathDuringInstall", b.deathDuringInstall)
	t.Run("DeathDuringRestart", b.deathDuringRestart)
	t.Run("RestartBehindOurBack", b.behindOurBack)
	t.Run("Removal", b.removal)
}

func boot(t *testing.T) *bed {
	t.Helper()
	if testing.Short() {
		t.Skip("a Windows host takes minutes")
	}
	for _, needed := range []string{"wine", "x86_64-w64-mingw32-gcc"} {
		if _, err := exec.LookPath(needed); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed: %v", needed, err)
			}
			t.Skipf("%s is not installed, so there is no host to conform to", needed)
		}
	}
	dir := t.TempDir()
	undo, err := janitor.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := undo.Close(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	path, err := orders.Build(ctx, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	host, err := windowshost.Start(ctx, windowshost.Options{Dir: dir, Janitor: undo, Progress: io.Discard, Zone: time.FixedZone("CET", 3600)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if counters := host.Counters(); counters.OpenShells != 0 || counters.OpenEnumerations != 0 {
			t.Errorf("left on the host: %+v", counters)
		}
		if err := host.Stop(context.Background()); err != nil {
			t.Errorf("stop the host: %v", err)
		}
	})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return &bed{host: host, program: program, port: free.Addr().(*net.TCPAddr).Port, epoch: 10}
}

func (b *bed) config() winrm.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.host.CA())
	return winrm.Config{
		Address: net.JoinHostPort(b.host.Address(), strconv.Itoa(b.host.Port())), Roots: roots,
		Username: b.host.User(), Password: b.host.Password(), Authentication: winrm.NTLM, OperationTimeout: 5 * time.Second,
	}
}

// cutter is a remote whose operator dies at a certain request.
type cutter struct {
	windows.Remote
	cut func(what string, then func())
}

func (c *cutter) Invoke(ctx context.Context, namespace, class string, keys map[string]string, method string, params []winrm.Param) (out winrm.Instance, err error) {
	c.cut("invoke "+class+"."+method, func() { out, err = c.Remote.Invoke(ctx, namespace, class, keys, method, params) })
	return out, err
}

func (c *cutter) Run(ctx context.Context, r winrm.Request) (result winrm.Result, err error) {
	c.cut("run "+r.Command, func() { result, err = c.Remote.Run(ctx, r) })
	return result, err
}

// operator is a new process of the operator: a connection and a machine of its own.
func (b *bed) operator(t *testing.T, cut func(what string, then func())) *windows.Machine {
	t.Helper()
	client, err := winrm.Dial(t.Context(), b.config())
	if err != nil {
		t.Fatal(err)
	}
	if cut == nil {
		cut = func(_ string, then func()) { then() }
	}
	m, err := windows.New(&cutter{Remote: client, cut: cut}, windows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func (b *bed) job(steps ...machine.Step) machine.Job {
	b.jobs++
	return machine.Job{ID: fmt.Sprintf("job-%d", b.jobs), Epoch: b.epoch, Owner: owner, Steps: steps, Timeout: 5 * time.Minute}
}

func (b *bed) do(t *testing.T, m *windows.Machine, steps ...machine.Step) {
	t.Helper()
	job := b.job(steps...)
	got, err := m.Start(t.Context(), job)
	if err == nil && got.Phase == machine.JobRunning {
		got = finished(t, m, job.ID)
	}
	if err != nil || got.Phase != machine.JobSucceeded {
		t.Fatalf("%+v, %v", got, err)
	}
}

func see[A machine.Answer](t *testing.T, m *windows.Machine, check machine.Check) A {
	t.Helper()
	seen, err := m.Observe(t.Context(), []machine.Check{check})
	if err != nil {
		t.Fatal(err)
	}
	answer, ok := seen.Answers[check].(A)
	if !ok {
		t.Fatalf("%+v: %+v", check, seen.Answers[check])
	}
	return answer
}

// effects counts what really happened to the service, by verb.
func (b *bed) effects(t *testing.T) map[string]int {
	t.Helper()
	events, err := b.host.Journal()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, event := range events {
		if strings.EqualFold(event.Name, "Orders") {
			counts[event.Verb]++
		}
	}
	return counts
}

func content(path, text string) machine.PutFile {
	sum := sha256.Sum256([]byte(text))
	return machine.PutFile{Path: path, Content: machine.Secret(text), SHA256: hex.EncodeToString(sum[:])}
}

func (b *bed) configFile(greeting string) machine.PutFile {
	return content(configPath, fmt.Sprintf(`{"port": %d, "region": "north", "greeting": %q}`, b.port, greeting))
}

func (b *bed) definition() machine.CreateWindowsService {
	return machine.CreateWindowsService{
		Name: "Orders", DisplayName: "Orders & more", Description: `Takes 100% of "orders" <ü>`,
		BinaryPath: `"` + programPath + `" ` + configPath, StartMode: "AutomaticDelayed",
	}
}

func (b *bed) install() []machine.Step {
	return []machine.Step{
		machine.Claim{Subject: ordersOf.Subject(), Owner: owner},
		content(programPath, string(b.program)),
		b.configFile("hello"),
		b.definition(),
		machine.StartService{Service: ordersOf, Hash: "h1"},
	}
}

func (b *bed) remove(t *testing.T, m *windows.Machine) {
	t.Helper()
	b.do(t, m, machine.StopService{Service: ordersOf}, machine.DeleteWindowsService{Name: "Orders"}, machine.RemoveFile{Path: programPath},
		machine.RemoveFile{Path: configPath}, machine.Release{Subject: ordersOf.Subject(), Owner: owner})
}

func (b *bed) answers(t *testing.T) string {
	t.Helper()
	var text string
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var response *http.Response
		if response, err = http.Get(fmt.Sprintf("http://%s:%d/orders", b.host.Address(), b.port)); err != nil {
			continue
		}
		data, readErr := io.ReadAll(response.Body)
		response.Body.Close()
		if text, err = string(data), readErr; err == nil {
			return text
		}
	}
	t.Fatalf("the service does not answer: %v", err)
	return ""
}

func (b *bed) facts(t *testing.T) {
	m := b.operator(t, nil)
	facts, err := m.Facts(t.Context())
	if err != nil || facts.InitSystem != "windows-scm" || facts.Architecture != "amd64" || facts.BootID == "" || facts.CPUs < 1 || facts.MemoryBytes < 1<<20 || facts.OSName == "" {
		t.Errorf("%+v, %v", facts, err)
	}
	if facts.Hostname != b.host.Name() {
		t.Errorf("hostname %q", facts.Hostname)
	}
}

func (b *bed) life(t *testing.T) {
	m := b.operator(t, nil)
	if got := see[machine.WindowsServiceState](t, m, state); got.Exists {
		t.Fatalf("before: %+v", got)
	}
	b.do(t, m, b.install()...)
	if text := b.answers(t); !strings.Contains(text, "hello") {
		t.Errorf("the service answers %q", text)
	}
	first := see[machine.WindowsServiceState](t, m, state)
	want := b.definition()
	if first.State != "Running" || first.BinaryPath != want.BinaryPath || first.Description != want.Description || first.DisplayName != want.DisplayName || first.StartMode != want.StartMode {
		t.Errorf("service %+v", first)
	}
	if got := see[machine.MarkState](t, m, mark); got.Started != "h1" || got.Instance != first.Instance || got.Owner != owner || got.Pending != "" {
		t.Errorf("mark %+v", got)
	}
	for _, put := range []machine.PutFile{content(programPath, string(b.program)), b.configFile("hello")} {
		if got := see[machine.FileState](t, m, machine.File{Path: put.Path}); got.SHA256 != put.SHA256 || got.Size != int64(len(put.Content)) {
			t.Errorf("file %s: %+v", put.Path, got)
		}
	}
	if got := see[machine.FileState](t, m, machine.File{Path: `C:\Orders`}); got.Kind != machine.FileDirectory {
		t.Errorf("directory: %+v", got)
	}

	// The program is replaced while it runs.
	newer := content(programPath, string(b.program)+"newer")
	b.do(t, m, newer, b.configFile("good day"), machine.RestartService{Service: ordersOf, Hash: "h2"})
	second := see[machine.WindowsServiceState](t, m, state)
	if got := see[machine.FileState](t, m, machine.File{Path: programPath}); got.SHA256 != newer.SHA256 {
		t.Errorf("program %+v", got)
	}
	if text := b.answers(t); !strings.Contains(text, "good day") || second.Instance == first.Instance {
		t.Errorf("the service answers %q as %s after %s", text, second.Instance, first.Instance)
	}
	directory, err := b.host.Path(`C:\Program Files\Orders`)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) != 1 {
		t.Errorf("beside the program: %v, %v", entries, err)
	}
	for _, mode := range []string{"Automatic", "Manual", "AutomaticDelayed", "Disabled", "Automatic"} {
		b.do(t, m, machine.ChangeWindowsService{Name: "Orders", StartMode: &mode})
		if got := see[machine.WindowsServiceState](t, m, state); got.StartMode != mode || got.Instance != second.Instance {
			t.Errorf("%s: %+v", mode, got)
		}
	}
	b.remove(t, m)
	if got := see[machine.WindowsServiceState](t, m, state); got.Exists {
		t.Errorf("after: %+v", got)
	}
	if got := see[machine.FileState](t, m, machine.File{Path: programPath}); got.Kind != machine.FileAbsent {
		t.Errorf("after: %+v", got)
	}
}

func (b *bed) wrongPassword(t *testing.T) {
	for _, mode := range []string{winrm.NTLM, winrm.Basic} {
		before := b.host.FailedLogins()
		config := b.config()
		config.Password, config.Authentication = "wrong", mode
		_, err := winrm.Dial(t.Context(), config)
		var refused *transport.CredentialsError
		if !errors.As(err, &refused) || b.host.FailedLogins() != before+1 {
			t.Errorf("%s: %v after %d attempts", mode, err, b.host.FailedLogins()-before)
		}
	}
}

func (b *bed) staleEpoch(t *testing.T) {
	m := b.operator(t, nil)
	b.do(t, m, machine.Claim{Subject: "file/x", Owner: owner}, machine.Release{Subject: "file/x", Owner: owner})
	old := b.job(b.configFile("stale"))
	old.Epoch--
	_, err := m.Start(t.Context(), old)
	var stale *machine.StaleLeaderError
	if !errors.As(err, &stale) || stale.Seen != b.epoch {
		t.Errorf("error %v", err)
	}
	if got := see[machine.FileState](t, m, machine.File{Path: configPath}); got.Kind != machine.FileAbsent {
		t.Errorf("a stale leader wrote %+v", got)
	}
}

// moment is a request at which an operator dies: just before it, or after it was
// carried out and before the answer is heard of.
type moment struct {
	prefix, contains string
	after            bool
}

// dieAt starts a job whose operator dies at a moment, and gives the next operator.
func (b *bed) dieAt(t *testing.T, at moment, steps ...machine.Step) *windows.Machine {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reached := false
	dying := b.operator(t, func(what string, then func()) {
		hit := !reached && strings.HasPrefix(what, at.prefix) && strings.Contains(what, at.contains)
		if hit && !at.after {
			cancel()
		}
		then()
		if hit {
			reached = true
			cancel()
		}
	})
	job := b.job(steps...)
	_, err := dying.Start(ctx, job)
	var lost *transport.LostError
	if !errors.As(err, &lost) || !reached {
		t.Fatalf("%+v: error %v, reached %v", at, err, reached)
	}
	if err := dying.Close(); err != nil {
		t.Errorf("%+v: close: %v", at, err)
	}
	b.epoch++
	next := b.operator(t, nil)
	if got := see[machine.JobState](t, next, machine.JobReceipt{ID: job.ID}); got.Phase != machine.JobLost && got.Phase != machine.JobAbsent {
		t.Errorf("%+v: receipt %+v", at, got)
	}
	return next
}

// delta runs something and wants the effects on the service that it had.
func (b *bed) delta(t *testing.T, what any, want map[string]int, run func()) {
	t.Helper()
	before := b.effects(t)
	run()
	after := b.effects(t)
	for _, verb := range []string{cim.Create, cim.Start, cim.Stop, cim.Delete} {
		if got := after[verb] - before[verb]; got != want[verb] {
			t.Errorf("%+v: %s happened %d times, want %d", what, verb, got, want[verb])
		}
	}
}

func (b *bed) deathDuringInstall(t *testing.T) {
	for _, at := range []moment{
		{prefix: "run mkdir", contains: `\jobs\`, after: true},
		{prefix: "run (if not exist", contains: "ren ", after: true},
		{prefix: "run powershell", after: true},
		{prefix: "invoke Win32_Service.Create"}, {prefix: "invoke Win32_Service.Create", after: true},
		{prefix: "invoke Win32_Process.Create", after: true}, {prefix: "run sc.exe", after: true},
		{prefix: "run (if not exist", contains: "move /y", after: true},
		{prefix: "invoke Win32_Service.StartService"}, {prefix: "invoke Win32_Service.StartService", after: true},
	} {
		b.delta(t, at, map[string]int{cim.Create: 1, cim.Start: 1, cim.Stop: 1, cim.Delete: 1}, func() {
			next := b.dieAt(t, at, b.install()...)
			b.do(t, next, b.install()...)
			now := see[machine.WindowsServiceState](t, next, state)
			got := see[machine.MarkState](t, next, mark)
			if now.State != "Running" || now.StartMode != "AutomaticDelayed" || now.Description != b.definition().Description || got.Started != "h1" || got.Instance != now.Instance {
				t.Errorf("%+v: %+v, %+v", at, now, got)
			}
			b.remove(t, next)
		})
	}
}

func (b *bed) deathDuringRestart(t *testing.T) {
	b.do(t, b.operator(t, nil), b.install()...)
	for i, at := range []moment{
		{prefix: "run (if not exist", contains: "pending"}, {prefix: "run (if not exist", contains: "pending", after: true},
		{prefix: "invoke Win32_Service.StopService"}, {prefix: "invoke Win32_Service.StopService", after: true},
		{prefix: "invoke Win32_Service.StartService"}, {prefix: "invoke Win32_Service.StartService", after: true},
	} {
		hash := fmt.Sprint("restart-", i)
		restart := machine.RestartService{Service: ordersOf, Hash: hash}
		b.delta(t, at, map[string]int{cim.Start: 1, cim.Stop: 1}, func() {
			next := b.dieAt(t, at, b.configFile(hash), restart)
			b.do(t, next, restart)
			now := see[machine.WindowsServiceState](t, next, state)
			if got := see[machine.MarkState](t, next, mark); got.Started != hash || got.Instance != now.Instance || got.Pending != "" || now.State != "Running" {
				t.Errorf("%+v: %+v, %+v", at, now, got)
			}
			if text := b.answers(t); !strings.Contains(text, hash) {
				t.Errorf("%+v: the service answers %q", at, text)
			}
		})
	}
}

// A person at the console restarts the service: the instance tells.
func (b *bed) behindOurBack(t *testing.T) {
	m := b.operator(t, nil)
	b.do(t, m, b.install()...)
	before := see[machine.MarkState](t, m, mark)
	for _, verb := range []windowshost.ControlVerb{windowshost.StopService, windowshost.StartService} {
		if err := b.host.Control(t.Context(), verb, "Orders"); err != nil {
			t.Fatal(err)
		}
	}
	now := see[machine.WindowsServiceState](t, m, state)
	if now.State != "Running" || now.Instance == before.Instance {
		t.Errorf("%+v after %+v", now, before)
	}
	b.delta(t, "record", nil, func() { b.do(t, m, machine.RecordStart{Service: ordersOf, Hash: "h9"}) })
	if got := see[machine.MarkState](t, m, mark); got.Started != "h9" || got.Instance != now.Instance {
		t.Errorf("mark %+v", got)
	}
}

func (b *bed) removal(t *testing.T) {
	m := b.operator(t, nil)
	b.remove(t, m)
	var ids []string
	for i := range b.jobs {
		ids = append(ids, fmt.Sprintf("job-%d", i+1))
	}
	if err := m.Forget(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	path, err := b.host.Path(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		left, _ := exec.Command("find", path).Output()
		t.Errorf("the state directory is left: %s", left)
	}
}
