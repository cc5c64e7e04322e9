package windows

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// panicAt has a request of the host panic, in the goroutine that makes it.
func (h *fakeHost) panicAt(prefix string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = func(call string) {
		if strings.HasPrefix(call, prefix) {
			h.mu.Lock() // call unlocks it
			panic("odd answer")
		}
	}
}

// closed says that nothing of a machine is left.
func closed(t *testing.T, m *Machine) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		_ = m.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the machine does not close")
	}
}

// A defect while a job is carried out ends the job and nothing else: how far it
// came is not known.
func TestPanicInAJobIsTheErrorOfStart(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	h.panicAt("invoke StartService")
	_, err := m.Start(t.Context(), job("a", 1, install("h1")...))
	var panicked *defect.PanicError
	if !errors.As(err, &panicked) || panicked.Value != "odd answer" || len(panicked.Stack) == 0 {
		t.Errorf("error %v", err)
	}
	closed(t, m)
	h.hook = nil
	again := h.machine()
	if state := receiptOf(t, again, "a"); state.Phase != machine.JobLost {
		t.Errorf("%+v", state)
	}
	if state, err := again.Start(t.Context(), job("a", 1, install("h1")...)); err != nil || state.Phase != machine.JobLost {
		t.Errorf("started again: %+v, %v", state, err)
	}
	must(t, again, job("b", 1, install("h1")...))
}

// Nobody waits for the job any more: the next look tells, and the caller connects again.
func TestPanicInAJobThatGoesOnAlone(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	m.patient = time.Millisecond
	h.services["orders"].pending = 1 << 30
	if state, err := m.Start(t.Context(), job("b", 1, machine.StopService{Service: service}, put(config, "v2"))); err != nil || state.Phase != machine.JobRunning {
		t.Fatalf("%+v, %v", state, err)
	}
	h.panicAt("query Win32_Service")
	for deadline := time.Now().Add(5 * time.Second); len(m.underway([]machine.JobReceipt{{ID: "b"}})) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the job does not end")
		}
	}
	h.mu.Lock()
	h.hook = nil
	h.mu.Unlock()
	var panicked *defect.PanicError
	if _, err := m.Observe(t.Context(), []machine.Check{ownState}); !errors.As(err, &panicked) {
		t.Errorf("error %v", err)
	}
	closed(t, m)
	if state := receiptOf(t, h.machine(), "b"); state.Phase != machine.JobLost || h.count("deliver "+config) != 1 {
		t.Errorf("%+v, effects %v", state, h.effects)
	}
}

func TestPanicInAScriptIsTheErrorOfTheLook(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	check := machine.Script{Text: "echo fine\n", Timeout: time.Minute}
	h.panicAt("run if exist")
	_, err := m.Observe(t.Context(), []machine.Check{ownState, check})
	var panicked *defect.PanicError
	if !errors.As(err, &panicked) {
		t.Errorf("error %v", err)
	}
	closed(t, m)
	h.hook = nil
	if state, ok := observe(t, h.machine(), ownState, check).Answers[check].(machine.ScriptState); !ok || state.ExitCode != 0 {
		t.Errorf("%+v", state)
	}
}
