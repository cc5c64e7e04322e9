package windows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

func run(text string, variables ...machine.Variable) machine.RunScript {
	return machine.RunScript{Text: machine.Secret(text), Environment: variables}
}

func receiptOf(t *testing.T, m *Machine, id string) machine.JobState {
	t.Helper()
	receipt := machine.JobReceipt{ID: id}
	return observe(t, m, receipt).Answers[receipt].(machine.JobState)
}

// ends waits for a job that Start no longer waits for.
func ended(t *testing.T, m *Machine, id string) machine.JobState {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if state := receiptOf(t, m, id); state.Phase != machine.JobRunning {
			return state
		}
	}
	t.Fatalf("job %s runs on", id)
	return machine.JobState{}
}

func TestScriptSucceeds(t *testing.T) {
	for _, looks := range []int{0, 5} {
		h := newFakeHost(t)
		text := fmt.Sprintf("rem hello\nrem looks %d\necho done with secret-1\n", looks)
		j := job("a", 3, run(text, machine.Variable{Name: "TOKEN", Value: machine.Secret("secret-1")}))
		state := must(t, h.machine(), j)
		if state.Message != "done with [redacted]" || state.ExitCode != 0 || h.count("script rem hello") != 1 {
			t.Errorf("%+v, %v", state, h.effects)
		}
		if !strings.Contains(h.given["0"], `set "TOKEN=secret-1"`) {
			t.Errorf("the script was given %q", h.given["0"])
		}
		for _, call := range h.calls {
			if strings.Contains(call, "secret-1") {
				t.Errorf("a request names a secret: %s", call)
			}
		}
		for _, name := range h.disk.under(`C:\ProgramData`) {
			if strings.Contains(name, "env-") || strings.Contains(name, "script-") {
				t.Errorf("left on the host: %s", name)
			}
		}
		if !h.disk.private[`c:\programdata\isthmus`] {
			t.Error("the state directory is for everybody")
		}
		again, err := h.machine().Start(t.Context(), j)
		if err != nil || again.Phase != machine.JobSucceeded || h.count("script rem hello") != 1 {
			t.Errorf("started again: %+v, %v", again, err)
		}
	}
}

func TestScriptFails(t *testing.T) {
	h := newFakeHost(t)
	state, err := h.machine().Start(t.Context(), job("a", 1, run("echo first\necho last words\nexit /b 7\n"), put(config, "x")))
	if err != nil || state.Phase != machine.JobFailed || state.ExitCode != 7 || state.Step != 0 || !strings.HasSuffix(state.Message, "last words") {
		t.Errorf("%+v, %v", state, err)
	}
	if h.count("deliver "+config) != 0 {
		t.Error("the step after it was done")
	}
}

// Start waits a moment for a script, and it goes on without the caller.
func TestLongScriptRunsOn(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	m.moment = time.Nanosecond
	ctx, cancel := context.WithCancel(t.Context())
	state, err := m.Start(ctx, job("a", 1, run("rem looks 300\n"), put(config, "x")))
	cancel()
	if err != nil || state.Phase != machine.JobRunning {
		t.Fatalf("%+v, %v", state, err)
	}
	if state := ended(t, m, "a"); state.Phase != machine.JobSucceeded || h.count("deliver "+config) != 1 {
		t.Errorf("%+v", state)
	}
}

func TestScriptPrintsTooMuch(t *testing.T) {
	h := newFakeHost(t)
	secret := strings.Repeat("s3cret", 4)
	text := strings.Repeat("echo "+secret+" in a line of some length that is repeated\n", 1000) + "echo the end\nexit /b 3\n"
	state, err := h.machine().Start(t.Context(), job("a", 1, run(text, machine.Variable{Name: "S", Value: machine.Secret(secret)})))
	if err != nil || !strings.HasSuffix(state.Message, "the end") || strings.Contains(state.Message, "3cret") || len(state.Message) > maxMessage {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestScriptTimesOut(t *testing.T) {
	h := newFakeHost(t)
	late := job("a", 1, run("rem looks 1000000\nrem child\n"))
	late.Timeout = 50 * time.Millisecond
	state, err := h.machine().Start(t.Context(), late)
	if err != nil || state.Phase != machine.JobFailed || state.ExitCode != exitTimedOut || h.runningScripts() != 0 {
		t.Errorf("%+v, %v, %d processes left", state, err, h.runningScripts())
	}
}

// orphanOf runs a job whose operator dies when its script has begun.
func orphanOf(t *testing.T, h *fakeHost, steps ...machine.Step) *Machine {
	t.Helper()
	j := job("a", 5, steps...)
	j.Timeout = time.Hour
	dying := h.machine()
	h.hook = func(call string) {
		if strings.HasPrefix(call, "query CIM_DataFile") && h.runningScripts() > 0 {
			h.mu.Lock()
			h.breakAt = len(h.calls) + 1
			h.mu.Unlock()
		}
	}
	_, err := dying.Start(t.Context(), j)
	h.hook = nil
	var lost *transport.LostError
	if !errors.As(err, &lost) {
		t.Fatalf("error %v", err)
	}
	return h.machine()
}

func TestScriptOutlivesItsOperator(t *testing.T) {
	for _, c := range []struct {
		name, end string
		after     []machine.Step
		want      machine.JobPhase
		code      int
		step      int
	}{
		{name: "last and well", want: machine.JobSucceeded},
		{name: "last and badly", end: "exit /b 4\n", want: machine.JobFailed, code: 4, step: 1},
		{name: "well, with steps after it", after: []machine.Step{put(config, "y")}, want: machine.JobLost, step: 2},
		{name: "badly, with steps after it", end: "exit /b 4\n", after: []machine.Step{put(config, "y")}, want: machine.JobFailed, code: 4, step: 1},
	} {
		h := newFakeHost(t)
		steps := append([]machine.Step{put(config, "x"), run("rem looks 40\n" + c.end)}, c.after...)
		m := orphanOf(t, h, steps...)
		if state := receiptOf(t, m, "a"); state.Phase != machine.JobRunning || state.Step != 1 {
			t.Errorf("%s: while it runs: %+v", c.name, state)
		}
		if state, err := m.Start(t.Context(), job("a", 6, steps...)); err != nil || state.Phase != machine.JobRunning {
			t.Errorf("%s: started again: %+v, %v", c.name, state, err)
		}
		state := ended(t, m, "a")
		if state.Phase != c.want || state.ExitCode != c.code || state.Step != c.step {
			t.Errorf("%s: %+v", c.name, state)
		}
		if again, err := m.Start(t.Context(), job("a", 6, steps...)); err != nil || again.Phase != c.want || h.count("script rem looks 40") != 1 {
			t.Errorf("%s: started again: %+v, %v", c.name, again, err)
		}
	}
}

func TestRebootDuringScript(t *testing.T) {
	h := newFakeHost(t)
	m := orphanOf(t, h, run("rem looks 1000\n"))
	h.reboot()
	if state := receiptOf(t, m, "a"); state.Phase != machine.JobLost || !strings.Contains(state.Message, "restarted") {
		t.Errorf("%+v", state)
	}
}

func TestScriptIsKilledByHand(t *testing.T) {
	h := newFakeHost(t)
	m := orphanOf(t, h, run("rem looks 1000\n"))
	h.running = nil
	if state := receiptOf(t, m, "a"); state.Phase != machine.JobLost || !strings.Contains(state.Message, "no receipt") {
		t.Errorf("%+v", state)
	}
	h = newFakeHost(t)
	m = h.machine()
	m.moment = time.Millisecond
	if _, err := m.Start(t.Context(), job("a", 1, run("rem looks 1000000\n"))); err != nil {
		t.Fatal(err)
	}
	for h.runningScripts() == 0 {
		time.Sleep(time.Millisecond)
	}
	h.reboot()
	if state := ended(t, m, "a"); state.Phase != machine.JobLost {
		t.Errorf("%+v", state)
	}
}

// The time of a script whose operator is gone is over when the next leader asks for its job.
func TestOverdueOrphanIsEnded(t *testing.T) {
	h := newFakeHost(t)
	m := orphanOf(t, h, run("rem looks 1000000\nrem child\n"))
	h.disk.now = h.disk.now.Add(2 * time.Hour)
	if state := receiptOf(t, m, "a"); state.Phase != machine.JobRunning || !strings.Contains(state.Message, "over its time") {
		t.Errorf("%+v", state)
	}
	state, err := m.Start(t.Context(), job("a", 6))
	if err != nil || state.Phase != machine.JobFailed || state.ExitCode != exitTimedOut || h.runningScripts() != 0 {
		t.Errorf("%+v, %v", state, err)
	}
}

// A leader that was frozen between the check of the epoch and the start of the script
// does not run it: the script's wrapper looks itself.
func TestScriptOfALeaderThatWasReplaced(t *testing.T) {
	h := newFakeHost(t)
	h.hook = func(call string) {
		if call == "invoke Create" {
			h.mu.Lock()
			h.disk.mkdir(`C:\ProgramData\isthmus\epoch\0000000000000000009`)
			h.mu.Unlock()
		}
	}
	_, err := h.machine().Start(t.Context(), job("a", 2, run("rem never\n")))
	var stale *machine.StaleLeaderError
	if !errors.As(err, &stale) || stale.Seen != 9 || h.count("script rem never") != 0 {
		t.Errorf("%v, %v", err, h.effects)
	}
	h.hook = nil
	if state := receiptOf(t, h.machine(), "a"); state.Phase != machine.JobLost || !strings.Contains(state.Message, "did not run") {
		t.Errorf("%+v", state)
	}
}

func TestCancel(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	if state, err := m.Cancel(t.Context(), "a", 3); err != nil || state.Phase != machine.JobAbsent || len(h.disk.under(`C:\ProgramData`)) != 0 {
		t.Errorf("a job that is not there: %+v, %v", state, err)
	}
	m.moment = time.Millisecond
	if _, err := m.Start(t.Context(), job("a", 3, put(config, "x"), run("rem looks 1000000\nrem child\n"), put(config, "y"))); err != nil {
		t.Fatal(err)
	}
	for h.runningScripts() == 0 {
		time.Sleep(time.Millisecond)
	}
	var stale *machine.StaleLeaderError
	if _, err := m.Cancel(t.Context(), "a", 2); !errors.As(err, &stale) || h.runningScripts() == 0 {
		t.Errorf("a stale leader: %v", err)
	}
	state, err := m.Cancel(t.Context(), "a", 3)
	if err != nil || state.Phase != machine.JobCancelled || state.Step != 1 || h.runningScripts() != 0 || h.count("deliver "+config) != 1 {
		t.Errorf("%+v, %v, effects %v", state, err, h.effects)
	}
	for _, other := range []*Machine{m, h.machine()} {
		again, err := other.Cancel(t.Context(), "a", 3)
		if err != nil || again != state {
			t.Errorf("again: %+v, %v", again, err)
		}
		if seen := receiptOf(t, other, "a"); seen != state {
			t.Errorf("seen: %+v", seen)
		}
	}
	done := must(t, m, job("b", 3, put(config, "z")))
	if kept, err := m.Cancel(t.Context(), "b", 3); err != nil || kept != done {
		t.Errorf("a job that has ended: %+v, %v", kept, err)
	}
}

func TestCancelOfAnOrphan(t *testing.T) {
	h := newFakeHost(t)
	m := orphanOf(t, h, run("rem looks 1000000\nrem child\n"))
	state, err := m.Cancel(t.Context(), "a", 6)
	if err != nil || state.Phase != machine.JobCancelled || h.runningScripts() != 0 {
		t.Errorf("%+v, %v", state, err)
	}
	if seen := receiptOf(t, h.machine(), "a"); seen != state {
		t.Errorf("seen: %+v", seen)
	}
}

// The wrapper of a script was killed, and what it had started runs on: cancelling ends that too.
func TestCancelFindsWhatAScriptLeft(t *testing.T) {
	boot := "2026-01-01T00:00:00Z"
	all := []process{
		{ID: 10, Created: "2026-01-01T00:01:00.5Z", parent: 9}, // child of the dead wrapper
		{ID: 11, Created: "2026-01-01T00:01:01Z", parent: 10},
		{ID: 12, Created: "2025-12-31T23:00:00Z", parent: 9}, // older than the wrapper
		{ID: 13, Created: "2026-01-01T00:01:02Z", parent: 4},
	}
	wrapper := process{ID: 9, Created: "2026-01-01T00:01:00.51Z"}
	wrapper.Created = "2026-01-01T00:01:00.5Z"
	if got := below(all, []process{wrapper}); len(got) != 2 || got[0].ID != 10 || got[1].ID != 11 {
		t.Errorf("%+v", got)
	}
	reused := append(all, process{ID: 9, Created: "2026-01-01T00:01:00.9Z", parent: 4}, process{ID: 14, Created: "2026-01-01T00:02:00Z", parent: 9})
	if got := below(reused, []process{wrapper}); len(got) != 2 {
		t.Errorf("a number that is used again: %+v", got)
	}
	if got := below([]process{{ID: 9, Created: boot, parent: 9}}, []process{{ID: 9, Created: boot}}); len(got) != 0 {
		t.Errorf("a process that is its own parent: %+v", got)
	}
}

// A host that does not wait for a slow service has begun to start it all the same.
func TestServiceThatIsSlowToStart(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")[:3]...))
	h.hook = func(call string) {
		if call == "invoke StartService" {
			h.mu.Lock()
			s := h.services["orders"]
			s.state, s.next, s.pending, s.pid, s.created = startPending, running, 5, 4242, h.boot
			h.mu.Unlock()
		}
	}
	h.fault["invoke StartService"] = &winrm.Fault{Code: 2150858793, Subcode: "w:TimedOut", Text: "not in time"}
	must(t, m, job("b", 1, machine.StartService{Service: service, Hash: "h1"}))
	if mark := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState); mark.Started != "h1" {
		t.Errorf("%+v", mark)
	}
}

// A host that is slow to create a process may have created it all the same: that
// the script failed is not known, and its own receipt tells how it ended.
func TestScriptThatIsSlowToBegin(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	h.hook = func(call string) {
		if call == "invoke Create" {
			h.mu.Lock()
			h.process(`cmd.exe /d /s /c ""C:\ProgramData\isthmus\jobs\a\run-0.cmd""`)
			h.mu.Unlock()
		}
	}
	h.fault["invoke Create"] = &winrm.Fault{Code: 2150858793, Subcode: "w:TimedOut", Text: "not in time"}
	state, err := m.Start(t.Context(), job("a", 1, run("rem hello\nrem looks 5\n")))
	if err != nil || state.Phase != machine.JobLost || state.Finished != "" {
		t.Errorf("%+v, %v", state, err)
	}
	if state := ended(t, m, "a"); state.Phase != machine.JobSucceeded || h.count("script rem hello") != 1 {
		t.Errorf("%+v", state)
	}
}

// A host that cannot tell for a moment how a script does has not ended it.
func TestScriptThatCannotBeSeen(t *testing.T) {
	for _, call := range []string{"query Win32_Process", "query CIM_DataFile", "run type"} {
		h := newFakeHost(t)
		m := h.machine()
		h.hook = func(string) {
			if h.count("script rem hello") == 0 {
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.fault[call] = &winrm.Fault{Code: 1, Subcode: "w:InternalError", Text: "busy"}
		}
		state, err := m.Start(t.Context(), job("a", 1, run("rem hello\nrem looks 5\n")))
		if err != nil || state.Phase != machine.JobLost || state.Finished != "" {
			t.Errorf("%s: %+v, %v", call, state, err)
		}
		h.mu.Lock()
		h.hook, h.fault = nil, map[string]*winrm.Fault{}
		h.mu.Unlock()
		if state := ended(t, m, "a"); state.Phase != machine.JobSucceeded {
			t.Errorf("%s: %+v", call, state)
		}
	}
}
