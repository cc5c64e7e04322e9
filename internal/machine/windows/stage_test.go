package windows

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

func blobOf(content string, opened *int) machine.Blob {
	return machine.Blob{SHA256: digest(content), Size: int64(len(content)) + 1000, Open: func(context.Context) (io.ReadCloser, error) {
		*opened++
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

func TestStageIsSentOnce(t *testing.T) {
	h := newFakeHost(t)
	opened := 0
	blob := blobOf(strings.Repeat("large ", 30000), &opened)
	for range 3 {
		if err := h.machine().Stage(t.Context(), blob); err != nil {
			t.Fatal(err)
		}
	}
	place := machine.PlaceFile{Path: config, SHA256: blob.SHA256, Size: blob.Size}
	must(t, h.machine(), job("a", 1, place))
	must(t, h.machine(), job("b", 1, place)) // its effect is done, though nothing is staged
	if opened != 1 || digest(h.disk.files[key(config)].content) != blob.SHA256 || h.disk.exists(`C:\ProgramData\isthmus\blobs\`+blob.SHA256) {
		t.Errorf("opened %d times; %v", opened, h.effects)
	}
	h.disk.write(config, "other")
	state, err := h.machine().Start(t.Context(), job("c", 1, place))
	if err != nil || state.Phase != machine.JobFailed || !strings.Contains(state.Message, "no longer staged") {
		t.Errorf("%+v, %v", state, err)
	}
	for _, bad := range []machine.Blob{{SHA256: "x"}, {SHA256: `..\..\x`}, {SHA256: digest(""), Size: -1}} {
		if err := h.machine().Stage(t.Context(), bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	failing := blobOf("y", &opened)
	failing.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("the bucket is gone") }
	if err := h.machine().Stage(t.Context(), failing); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("error %v", err)
	}
}

// What nobody takes is removed by the host's next job after a day, and not before.
func TestStagedContentThatNobodyTakes(t *testing.T) {
	h := newFakeHost(t)
	opened := 0
	blob := blobOf("forgotten", &opened)
	if err := h.machine().Stage(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	path := `C:\ProgramData\isthmus\blobs\` + blob.SHA256
	h.disk.now = h.disk.now.Add(23 * time.Hour)
	must(t, h.machine(), job("a", 1, put(config, "x")))
	if !h.disk.exists(path) {
		t.Error("removed too early")
	}
	h.disk.now = h.disk.now.Add(2 * time.Hour)
	must(t, h.machine(), job("b", 1, put(config, "y")))
	if h.disk.exists(path) {
		t.Error("it is there still")
	}
}

// A program that runs is moved aside; its old content goes with the job once nobody runs it.
func TestRunningProgramIsReplaced(t *testing.T) {
	h := newFakeHost(t)
	program := `C:\Orders\orders.exe`
	must(t, h.machine(), job("a", 1, put(program, "old")))
	h.disk.locked[key(program)], h.aside[key(program)] = true, true
	must(t, h.machine(), job("b", 1, put(program, "new")))
	old := program + ".old-" + digest("new")[:8]
	if h.disk.files[key(program)].content != "new" || !h.disk.exists(old) {
		t.Errorf("%v", h.disk.under(`C:\Orders`))
	}
	clear(h.disk.locked)
	h.disk.locked[key(program)], h.aside[key(program)] = true, true
	h.hook = func(call string) {
		if strings.HasPrefix(call, "run del /f /q") {
			clear(h.disk.locked) // the service was restarted meanwhile
		}
	}
	must(t, h.machine(), job("c", 1, put(program, "newest")))
	if left := h.disk.under(`C:\Orders`); len(left) != 1 {
		t.Errorf("%v", left)
	}
}

func TestFullDisk(t *testing.T) {
	h := newFakeHost(t)
	must(t, h.machine(), job("a", 1, put(config, "x")))
	h.disk.full = true
	_, err := h.machine().Start(t.Context(), job("b", 1, put(config, "y")))
	var refused *machine.RefusedError
	if !errors.As(err, &refused) || refused.JobID != "b" {
		t.Errorf("error %v", err)
	}
	if err := h.machine().Stage(t.Context(), blobOf("more", new(int))); !errors.As(err, &refused) || refused.JobID != "" {
		t.Errorf("stage on a full disk: error %v", err)
	}
	if state := receiptOf(t, h.machine(), "b"); state.Phase != machine.JobAbsent {
		t.Errorf("a job that was refused is %+v", state)
	}
	h.disk.full = false
	must(t, h.machine(), job("b", 1, put(config, "y")))
	// The disk gets full in the middle.
	h.hook = func(call string) {
		if call == "run # isthmus:deliver v2" {
			h.disk.full = true
		}
	}
	_, err = h.machine().Start(t.Context(), job("c", 1, put(config, "z")))
	if err == nil || h.disk.files[key(config)].content != "y" {
		t.Errorf("error %v, content %q", err, h.disk.files[key(config)].content)
	}
	h.hook, h.disk.full = nil, false
	if state := receiptOf(t, h.machine(), "c"); state.Phase != machine.JobLost {
		t.Errorf("%+v", state)
	}
}

func fetchOf(content string) machine.FetchFile {
	return machine.FetchFile{Path: config, URL: "https://files.example/a?b=1&c=%25d\"e", SHA256: digest(content), MaxSize: 1000}
}

func TestFetch(t *testing.T) {
	h := newFakeHost(t)
	f := fetchOf("content")
	h.web = map[string]string{f.URL: "content"}
	must(t, h.machine(), job("a", 1, f))
	must(t, h.machine(), job("b", 1, f))
	if h.count("download") != 1 || h.disk.files[key(config)].content != "content" {
		t.Errorf("%v", h.effects)
	}
	if left := h.disk.under(`C:\ProgramData\isthmus\blobs`); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	for _, call := range h.calls {
		if strings.Contains(call, "files.example") {
			t.Errorf("cmd.exe reads the URL: %s", call)
		}
	}
	changed, large, gone := fetchOf("another"), fetchOf("another"), fetchOf("another")
	large.MaxSize, gone.URL = 3, "https://files.example/gone"
	for want, step := range map[string]machine.FetchFile{"HashMismatch": changed, "the limit is 3": large, "refused it": gone} {
		state, err := h.machine().Start(t.Context(), job("f-"+strings.Fields(strings.ToLower(want))[0], 1, step))
		if err != nil || state.Phase != machine.JobFailed || !strings.Contains(state.Message, want) {
			t.Errorf("%s: %+v, %v", want, state, err)
		}
	}
	h.web = nil
	state, err := h.machine().Start(t.Context(), job("c", 1, changed))
	if err != nil || !strings.Contains(state.Message, "via: Operator") {
		t.Errorf("%+v, %v", state, err)
	}
	if left := h.disk.under(`C:\ProgramData\isthmus\blobs`); len(left) != 0 || h.disk.files[key(config)].content != "content" {
		t.Errorf("left %v", left)
	}
	for _, bad := range []func(*machine.FetchFile){
		func(f *machine.FetchFile) { f.URL = "file:///c:/windows/win.ini" }, func(f *machine.FetchFile) { f.URL = "https://user:pw@files.example/" },
		func(f *machine.FetchFile) { f.URL = "https://files.example/\nurl = x" }, func(f *machine.FetchFile) { f.MaxSize = 0 }, func(f *machine.FetchFile) { f.SHA256 = "x" },
	} {
		f := fetchOf("x")
		bad(&f)
		if err := checkFetch(f); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
}

// A configuration of curl is read back line by line as it was written, whatever a URL holds.
func FuzzCurlConfig(f *testing.F) {
	f.Add(`https://x.example/"\n" output = y`, `C:\a\"b`)
	f.Fuzz(func(t *testing.T, url, to string) {
		fetch := fetchOf("x")
		fetch.URL = url
		if checkFetch(fetch) != nil || checkPath(to) != nil {
			return
		}
		config := curlConfig(t.Context(), fetch, to)
		for _, line := range strings.Split(strings.TrimSuffix(config, "\n"), "\n") {
			name, value, given := strings.Cut(line, " = ")
			if !given {
				continue
			}
			back := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(value[1 : len(value)-1])
			if name == "url" && back != url || name == "output" && back != to {
				t.Errorf("%s: %q became %q", name, url, back)
			}
		}
		if n := strings.Count(config, "\n"); n != 13 {
			t.Errorf("%d lines: %s", n, config)
		}
	})
}

func TestBase64Reader(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 20000)
	text, err := io.ReadAll(&base64Reader{content: bytes.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	var back []byte
	for line := range bytes.Lines(text) {
		data, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, data...)
	}
	if !bytes.Equal(back, content) {
		t.Error("the content changed")
	}
	broken := io.MultiReader(strings.NewReader("x"), &failingReader{})
	if _, err := io.ReadAll(&base64Reader{content: broken}); err == nil {
		t.Error("content that breaks off was taken for whole")
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("broken off") }

func TestStageBrokenOffAtEveryRequest(t *testing.T) {
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			h := newFakeHost(t)
			opened := 0
			blob := blobOf("staged", &opened)
			m := h.machine()
			h.breakAt, h.late = n, late
			err := m.Stage(t.Context(), blob)
			if err := h.machine().Stage(t.Context(), blob); err != nil {
				t.Fatalf("request %d: %v", n, err)
			}
			must(t, h.machine(), job("a", 1, machine.PlaceFile{Path: config, SHA256: blob.SHA256, Size: blob.Size}))
			if err == nil {
				break
			}
			var lost *transport.LostError
			if !errors.As(err, &lost) {
				t.Errorf("request %d: %v", n, err)
			}
		}
	}
}

func TestScriptChecks(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	environment := machine.EncodeEnvironment([]machine.Variable{{Name: "PW", Value: machine.Secret("s3cret")}})
	good := machine.Script{Text: "echo s3cret is c3V4\r\necho fine\n", Environment: environment, Timeout: time.Minute}
	bad := machine.Script{Text: "echo not yet\nexit /b 1\n", Timeout: time.Minute}
	hanging := machine.Script{Text: "rem hang\n", Timeout: 50 * time.Millisecond}
	unlimited, foreign := machine.Script{Text: "x"}, machine.Script{Text: "x", Interpreter: "/bin/sh", Timeout: time.Minute}
	all := []machine.Check{hanging, good, bad, unlimited, foreign, ownState, ownMark}
	seen := observe(t, m, all...)
	if got := seen.Answers[good]; got != (machine.ScriptState{Output: "[redacted] is c3V4\nfine"}) {
		t.Errorf("%+v", got)
	}
	if got := seen.Answers[bad]; got != (machine.ScriptState{ExitCode: 1, Output: "not yet"}) {
		t.Errorf("%+v", got)
	}
	for check, reason := range map[machine.Check]string{hanging: timedOut, unlimited: failed, foreign: failed} {
		if got, ok := seen.Answers[check].(machine.Problem); !ok || got.Reason != reason {
			t.Errorf("%+v", seen.Answers[check])
		}
	}
	if _, ok := seen.Answers[ownState].(machine.WindowsServiceState); !ok {
		t.Errorf("%+v", seen.Answers[ownState])
	}
	// What is unchanged is not delivered again, and costs one command each.
	scripts, calls := h.scripts, h.callCount()
	observe(t, m, good, bad)
	if h.scripts != scripts || h.callCount()-calls != 3 {
		t.Errorf("%d starts of PowerShell, requests %v", h.scripts-scripts, h.calls[calls:])
	}
	// Another operator finds them, and what nobody asks for goes with the next delivery.
	next := h.machine()
	observe(t, next, good)
	if h.scripts != scripts {
		t.Error("a script was delivered again")
	}
	another := machine.Script{Text: "echo another\n", Timeout: time.Minute}
	observe(t, next, good, another)
	if left := h.disk.under(`C:\ProgramData\isthmus\scripts`); len(left) != 6 {
		t.Errorf("%v", left)
	}
	// Somebody removes them.
	h.disk.rmall(`C:\ProgramData\isthmus\scripts`)
	if got := observe(t, next, another).Answers[another]; got != (machine.ScriptState{Output: "another"}) {
		t.Errorf("%+v", got)
	}
	for _, call := range h.calls {
		if strings.Contains(call, "s3cret") {
			t.Errorf("a request names a secret: %s", call)
		}
	}
}

func (d *fakeDisk) rmall(path string) {
	for _, name := range d.under(path) {
		delete(d.files, name)
		delete(d.dirs, name)
	}
}

// Without the wrapper's last word nothing is known: no exit code of cmd.exe is taken for the script's.
func TestCheckedOutput(t *testing.T) {
	for text, want := range map[string]string{
		"": "could not be run", "The system cannot find the path specified.\r\n": "could not be run",
		saysExit + "the interpreter C:\\x.exe is not there\r\n": "not there", saysMissing + "\r\n": "not on the host",
	} {
		if _, err := checked(winrm.Result{ExitCode: 1, Stdout: []byte(text)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	got, err := checked(winrm.Result{Stdout: []byte(saysExit + "0 is a lie\r\nx" + saysExit + "-1073741510\r\n")}, nil)
	if err != nil || got.ExitCode != -1073741510 || got.Output != saysExit+"0 is a lie\nx" {
		t.Errorf("%+v, %v", got, err)
	}
	long := strings.Repeat("x", 100<<10) + "the end"
	if got, _ := checked(winrm.Result{Stdout: []byte(long + saysExit + "0")}, nil); len(got.Output) > maxShown || !strings.HasSuffix(got.Output, "the end") {
		t.Errorf("%d bytes", len(got.Output))
	}
	secret := machine.Secret("hunter2hunter2")
	cut := strings.Repeat("line\n", 10) + "hunter2hun"
	if got, _ := checked(winrm.Result{ExitCode: 0xFFFFFFFF, Stdout: []byte(cut), Truncated: true}, []machine.Secret{secret}); got.ExitCode != -1 || strings.Contains(got.Output, "hunter") {
		t.Errorf("%+v", got)
	}
}

func TestScriptsLeaveTimeForAnAnswer(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	ctx, cancel := context.WithTimeout(t.Context(), spare+300*time.Millisecond)
	defer cancel()
	var checks []machine.Check
	for i := range 5 {
		checks = append(checks, machine.Script{Text: machine.Confidential(fmt.Sprintf("rem hang %d\n", i)), Timeout: 200 * time.Millisecond})
	}
	seen, err := m.Observe(ctx, append(checks, ownState))
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range checks {
		if got, ok := seen.Answers[check].(machine.Problem); !ok || got.Reason != timedOut {
			t.Errorf("%+v", seen.Answers[check])
		}
	}
	if _, ok := seen.Answers[ownState].(machine.WindowsServiceState); !ok {
		t.Errorf("%+v", seen.Answers[ownState])
	}
}
