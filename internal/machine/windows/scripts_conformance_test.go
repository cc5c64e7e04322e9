package windows_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/windows"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// TestScriptConformance runs users' scripts with the cmd.exe of a real Wine.
func TestScriptConformance(t *testing.T) {
	b := boot(t)
	t.Run("Script", b.script)
	t.Run("Environment", b.environment)
	t.Run("OperatorDies", b.scriptOutlives)
	t.Run("Cancel", b.cancel)
	t.Run("Check", b.check)
	t.Run("Stage", b.stage)
	t.Run("Fetch", b.fetch)
	t.Run("FullDisk", b.fullDisk)
	t.Run("Links", b.links)
	t.Run("Reboot", b.reboot)
}

// finished waits for the end of a job.
func finished(t *testing.T, m *windows.Machine, id string) machine.JobState {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got := see[machine.JobState](t, m, machine.JobReceipt{ID: id}); got.Phase != machine.JobRunning {
			return got
		}
	}
	t.Fatalf("job %s runs on", id)
	return machine.JobState{}
}

func (b *bed) finish(t *testing.T, m *windows.Machine, steps ...machine.Step) machine.JobState {
	t.Helper()
	job := b.job(steps...)
	job.Timeout = 3 * time.Minute
	got, err := m.Start(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if got.Phase == machine.JobRunning {
		got = finished(t, m, job.ID)
	}
	return got
}

func (b *bed) read(t *testing.T, path string) string {
	t.Helper()
	file, err := b.host.Path(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

func (b *bed) write(t *testing.T, path, content string) {
	t.Helper()
	file, err := b.host.Path(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) script(t *testing.T) {
	m := b.operator(t, nil)
	text := "@echo off\r\necho hello from %~n0\nset /a n=40+2 >nul\necho n is %n% and %TOKEN%\n>&2 echo to standard error\nexit 7\n"
	got := b.finish(t, m, machine.RunScript{Text: machine.Secret(text), Environment: []machine.Variable{{Name: "TOKEN", Value: machine.Secret("hunter2-hunter2")}}})
	want := "the script ended with exit code 7: hello from script-0\nn is 42 and [redacted]\nto standard error"
	if got.Phase != machine.JobFailed || got.ExitCode != 7 || got.Message != want {
		t.Errorf("%+v", got)
	}
	got = b.finish(t, m, machine.RunScript{Text: machine.Secret("@echo all is well"), Interpreter: "cmd.exe"})
	if got.Phase != machine.JobSucceeded || got.Message != "all is well" {
		t.Errorf("%+v", got)
	}
	got = b.finish(t, m, machine.RunScript{Text: machine.Secret("@for /l %%i in (1,1,1800) do @echo line %%i of many lines that are printed"), Interpreter: `C:\windows\system32\cmd.exe`})
	if got.Phase != machine.JobSucceeded || !strings.HasSuffix(got.Message, "line 1800 of many lines that are printed") {
		t.Errorf("%+v", got)
	}
	for _, step := range []machine.RunScript{{Text: machine.Secret("x"), Interpreter: "C:\\a\" & del"}, {Text: machine.Secret("x"), Interpreter: "python.exe"}} {
		if got := b.finish(t, m, step); got.Phase != machine.JobFailed || !strings.Contains(got.Message, "interpreter") {
			t.Errorf("%+v", got)
		}
	}
}

// environment takes values through a batch file and reads them back as the script has them.
// Wine reads a batch file in the country's code page whatever chcp says, so they are ASCII here.
func (b *bed) environment(t *testing.T) {
	m := b.operator(t, nil)
	values := []string{
		`plain`, ` lead and trail `, `100% %PATH% %%`, `a & b | c > d < e`, `(x) ^ ^^ !y! !`, `'single' ; , =`, `C:\dir\`, `back\\slash`, `*?`, `%~dp0 %1`,
		`say "hi" & "bye"`, `"`, `a"b^c&d`,
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // any values will do
	t.Logf("seed %d", seed)
	for range 30 {
		value := make([]byte, random.IntN(20))
		for i := range value {
			value[i] = byte(' ' + random.IntN('~'-' '+1))
			if random.IntN(3) == 0 {
				value[i] = `"%!^&|<>()\=`[random.IntN(12)]
			}
		}
		values = append(values, string(value))
	}
	var variables []machine.Variable
	for i, value := range values {
		variables = append(variables, machine.Variable{Name: fmt.Sprintf("V_%d", i), Value: machine.Secret(value)})
	}
	// "set" prints values as they are; the file is read here, for the receipt is redacted.
	got := b.finish(t, m, machine.RunScript{Text: machine.Secret("@set V_>C:\\values.txt"), Environment: variables})
	if got.Phase != machine.JobSucceeded {
		t.Fatalf("%+v", got)
	}
	have := map[string]string{}
	for line := range strings.Lines(b.read(t, `C:\values.txt`)) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		have[name] = value
	}
	for i, value := range values {
		if have[fmt.Sprintf("V_%d", i)] != value {
			t.Errorf("%q became %q", value, have[fmt.Sprintf("V_%d", i)])
		}
	}
	for _, bad := range []machine.Variable{{Name: "A", Value: machine.Secret("a\nb")}, {Name: "A", Value: machine.Secret("a\x00")}, {Name: "ErrorLevel"}, {Name: "a b"}} {
		if got := b.finish(t, m, machine.RunScript{Text: machine.Secret("@echo x"), Environment: []machine.Variable{bad}}); got.Phase != machine.JobFailed || !strings.Contains(got.Message, "variable") {
			t.Errorf("%+v", got)
		}
	}
}

// waiting is a script that runs until a file is there, and writes down that it ran.
func waiting(name string) machine.RunScript {
	return machine.RunScript{Text: machine.Secret(fmt.Sprintf(
		"@echo off\necho ran>>C:\\%[1]s.ran\n:wait\nping -n 2 127.0.0.1 >nul 2>nul\nif not exist C:\\%[1]s.go goto wait\necho gone\n", name))}
}

// begun waits until the script of a job runs, starting it with an operator that dies then.
func (b *bed) begun(t *testing.T, name string, steps ...machine.Step) machine.Job {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dying := b.operator(t, nil)
	job := b.job(steps...)
	job.Timeout = 3 * time.Minute
	died := make(chan error, 1)
	go func() {
		_, err := dying.Start(ctx, job)
		died <- err
	}()
	for deadline := time.Now().Add(3 * time.Minute); b.read(t, `C:\`+name+".ran") == ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the script does not begin")
		}
	}
	cancel()
	if err := dying.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	var lost *transport.LostError
	if err := <-died; err != nil && !errors.As(err, &lost) {
		t.Errorf("error %v", err)
	}
	b.epoch++
	return job
}

func (b *bed) scriptOutlives(t *testing.T) {
	job := b.begun(t, "outlives", waiting("outlives"))
	next := b.operator(t, nil)
	if got := see[machine.JobState](t, next, machine.JobReceipt{ID: job.ID}); got.Phase != machine.JobRunning {
		t.Errorf("%+v", got)
	}
	job.Epoch = b.epoch
	if got, err := next.Start(t.Context(), job); err != nil || got.Phase != machine.JobRunning {
		t.Errorf("started again: %+v, %v", got, err)
	}
	b.write(t, `C:\outlives.go`, "")
	if got := finished(t, next, job.ID); got.Phase != machine.JobSucceeded || got.Finished == "" {
		t.Errorf("%+v", got)
	}
	if ran := strings.Count(b.read(t, `C:\outlives.ran`), "ran"); ran != 1 {
		t.Errorf("the script ran %d times", ran)
	}
	if err := next.Forget(t.Context(), []string{job.ID}); err != nil {
		t.Error(err)
	}
}

func (b *bed) cancel(t *testing.T) {
	m := b.operator(t, nil)
	job := b.job(waiting("cancel"))
	job.Timeout = 3 * time.Minute
	if got, err := m.Start(t.Context(), job); err != nil || got.Phase != machine.JobRunning {
		t.Fatalf("%+v, %v", got, err)
	}
	got, err := m.Cancel(t.Context(), job.ID, b.epoch)
	if err != nil || got.Phase != machine.JobCancelled {
		t.Errorf("%+v, %v", got, err)
	}
	orphan := b.begun(t, "orphan", waiting("orphan"))
	got, err = b.operator(t, nil).Cancel(t.Context(), orphan.ID, b.epoch)
	if err != nil || got.Phase != machine.JobCancelled {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{"cancel", "orphan"} {
		if left, err := b.host.CommandLines(t.Context(), name); err != nil || len(left) != 0 {
			t.Errorf("left running: %v, %v", left, err)
		}
	}
}

func (b *bed) check(t *testing.T) {
	m := b.operator(t, nil)
	environment := machine.EncodeEnvironment([]machine.Variable{{Name: "WHO", Value: machine.Secret("s3cret-w0rd")}})
	quick := machine.Script{Text: "@echo off\r\necho looks %WHO% good\nexit /b 1\n", Environment: environment, Timeout: 30 * time.Second}
	hanging := machine.Script{Text: "@:wait\r\n@ping -n 2 127.0.0.1 >nul\n@goto wait\n", Timeout: 3 * time.Second}
	missing := machine.Script{Text: "x", Interpreter: `C:\Python\python.exe`, Timeout: 30 * time.Second}
	for range 2 {
		seen, err := m.Observe(t.Context(), []machine.Check{hanging, quick, missing, state, machine.File{Path: configPath}})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := seen.Answers[quick].(machine.ScriptState); !ok || got.ExitCode != 1 || got.Output != "looks [redacted] good" {
			t.Errorf("%+v", seen.Answers[quick])
		}
		if got, ok := seen.Answers[hanging].(machine.Problem); !ok || got.Reason != "Timeout" {
			t.Errorf("%+v", seen.Answers[hanging])
		}
		if got, ok := seen.Answers[missing].(machine.Problem); !ok || !strings.Contains(got.Message, "python.exe") {
			t.Errorf("%+v", seen.Answers[missing])
		}
		if _, ok := seen.Answers[state].(machine.WindowsServiceState); !ok {
			t.Errorf("%+v", seen.Answers[state])
		}
	}
}

// stream is content of some size that was never held as a whole.
func stream(size int64) (content func() io.ReadCloser, digest string) {
	content = func() io.ReadCloser { return io.NopCloser(io.LimitReader(&counting{}, size)) }
	sum := sha256.New()
	_, _ = io.Copy(sum, content())
	return content, hex.EncodeToString(sum.Sum(nil))
}

type counting struct{ n uint64 }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n = c.n*6364136223846793005 + 1442695040888963407
		p[i] = byte(c.n >> 56)
	}
	return len(p), nil
}

func (b *bed) stage(t *testing.T) {
	const size, target = 100 << 20, `C:\Orders\large.bin`
	m := b.operator(t, nil)
	open, digest := stream(size)
	opened := 0
	blob := machine.Blob{SHA256: digest, Size: size, Open: func(context.Context) (io.ReadCloser, error) {
		opened++
		return open(), nil
	}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	for range 2 {
		if err := m.Stage(t.Context(), blob); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d MiB in %v; heap in use %d MiB before, %d MiB after", size>>20, time.Since(begun).Round(time.Millisecond), before.HeapInuse>>20, after.HeapInuse>>20)
	if opened != 1 {
		t.Errorf("sent %d times", opened)
	}
	place := machine.PlaceFile{Path: target, SHA256: digest, Size: size}
	for range 2 { // The second finds its effect done.
		b.do(t, m, place)
	}
	if got := see[machine.FileState](t, m, machine.File{Path: target}); got.SHA256 != digest || got.Size != size {
		t.Errorf("%+v", got)
	}
	if got := see[machine.FileState](t, m, machine.File{Path: stateDir + `\blobs\` + digest}); got.Kind != machine.FileAbsent {
		t.Errorf("the staged copy: %+v", got)
	}
	b.do(t, m, machine.RemoveFile{Path: target})
	wrong := machine.Blob{SHA256: digest, Size: 3, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("abc")), nil }}
	var refused *machine.RefusedError
	if err := m.Stage(t.Context(), wrong); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "HashMismatch") {
		t.Errorf("another content: %v", err)
	}
}

func (b *bed) fetch(t *testing.T) {
	content := bytes.Repeat([]byte("fetched "), 1000)
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/a%20b?x=\"&y=%25", http.StatusFound)
		case "/a b":
			w.(http.Flusher).Flush() // no Content-Length
			_, _ = w.Write(content)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	m := b.operator(t, nil)
	target := `C:\Orders\fetched.bin`
	fetch := machine.FetchFile{Path: target, URL: server.URL + "/moved", SHA256: digest, MaxSize: 1 << 20}
	for range 2 {
		if got := b.finish(t, m, fetch); got.Phase != machine.JobSucceeded {
			t.Errorf("%+v", got)
		}
	}
	if b.read(t, target) != string(content) || requests != 2 {
		t.Errorf("%d requests", requests)
	}
	small, other, gone := fetch, fetch, fetch
	small.MaxSize, small.Path = 100, target+"2"
	other.SHA256, other.Path = strings.Repeat("0", 64), target+"2"
	gone.URL, gone.Path = server.URL+"/gone", target+"2"
	for want, step := range map[string]machine.FetchFile{"the limit is 100": small, "HashMismatch": other, "404": gone} {
		if got := b.finish(t, m, step); got.Phase != machine.JobFailed || !strings.Contains(got.Message, want) {
			t.Errorf("%s: %+v", want, got)
		}
	}
	if left := b.read(t, target+"2"); left != "" {
		t.Errorf("left %q", left)
	}
	curl, err := b.host.Path(`C:\windows\system32\curl.exe`)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(curl); err != nil {
		t.Fatal(err)
	}
	if got := b.finish(t, m, small); got.Phase != machine.JobFailed || !strings.Contains(got.Message, "via: Operator") {
		t.Errorf("%+v", got)
	}
}

func (b *bed) fullDisk(t *testing.T) {
	m := b.operator(t, nil)
	b.host.FillDisk()
	defer b.host.FreeDisk()
	got := b.finish(t, m, b.configFile("full"))
	if got.Phase != machine.JobFailed || !strings.Contains(got.Message, "DiskFull") {
		t.Errorf("%+v", got)
	}
}

// links asks for a file behind a directory that is a link: it would be written who knows where.
func (b *bed) links(t *testing.T) {
	link, err := b.host.Path(`C:\linked`)
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	got := b.finish(t, b.operator(t, nil), content(`C:\linked\file`, "x"))
	if got.Phase != machine.JobFailed || !strings.Contains(got.Message, "Link") {
		t.Errorf("%+v", got)
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := os.Remove(link); err != nil {
		t.Error(err)
	}
}

func (b *bed) reboot(t *testing.T) {
	job := b.begun(t, "reboot", waiting("reboot"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := b.host.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	got := see[machine.JobState](t, b.operator(t, nil), machine.JobReceipt{ID: job.ID})
	if got.Phase != machine.JobLost || !strings.Contains(got.Message, "restarted") {
		t.Errorf("%+v", got)
	}
}
