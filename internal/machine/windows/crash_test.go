package windows

import (
	"errors"
	"fmt"
	"testing"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// plan is what the driver of a Windows service does about a fresh observation:
// the least that leads from there to a service that runs, started with hash.
func plan(t *testing.T, m *Machine, content, hash string) []machine.Step {
	t.Helper()
	seen := observe(t, m, ownState, ownMark, machine.File{Path: config})
	state := seen.Answers[ownState].(machine.WindowsServiceState)
	mark := seen.Answers[ownMark].(machine.MarkState)
	steps := install(hash)[:1]
	if seen.Answers[machine.File{Path: config}].(machine.FileState).SHA256 != digest(content) {
		steps = append(steps, put(config, content))
	}
	if !state.Exists || state.StartMode != automaticDelayed || state.Description == "" {
		steps = append(steps, install(hash)[2])
	}
	started := ""
	switch {
	case mark.Pending != "" && state.Instance != mark.Before:
		started = mark.Pending
	case state.Instance != "" && state.Instance == mark.Instance:
		started = mark.Started
	}
	switch {
	case state.State != running:
		steps = append(steps, machine.StartService{Service: service, Hash: hash})
	case started != hash:
		steps = append(steps, machine.RestartService{Service: service, Hash: hash})
	case mark.Started != hash || mark.Pending != "":
		steps = append(steps, machine.RecordStart{Service: service, Hash: hash})
	}
	return steps
}

// scenario is a job that is broken off at every request, once before and once
// after the effect of the request, and taken over by the next operator.
func scenario(t *testing.T, prepare func(*fakeHost), content, hash string, effects map[string]int) {
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			h := newFakeHost(t)
			prepare(h)
			m := h.machine()
			steps := plan(t, m, content, hash)
			before := map[string]int{}
			for effect := range effects {
				before[effect] = h.count(effect)
			}
			h.breakAt, h.late = h.callCount()+n, late
			_, err := m.Start(t.Context(), job("first", 5, steps...))
			if err == nil {
				if n < 10 {
					t.Errorf("the job needed %d requests only", n)
				}
				break
			}
			var lost *transport.LostError
			if !errors.As(err, &lost) {
				t.Fatalf("broken at request %d: %v", n, err)
			}
			where := fmt.Sprintf("broken at request %d (%s, late %v)", n, h.calls[len(h.calls)-1], late)
			m = h.machine()
			receipt := machine.JobReceipt{ID: "first"}
			phase := observe(t, m, receipt).Answers[receipt].(machine.JobState).Phase
			if phase == machine.JobRunning || phase == machine.JobFailed {
				t.Errorf("%s: the job is %s", where, phase)
			}
			if again, err := m.Start(t.Context(), job("first", 6)); err != nil || phase != machine.JobAbsent && again.Phase != phase {
				t.Errorf("%s: started again: %+v, %v", where, again, err)
			}
			must(t, m, job("second", 6, plan(t, m, content, hash)...))
			if left := plan(t, m, content, hash); len(left) != 1 {
				t.Errorf("%s: the second job left %v", where, left)
			}
			for effect, want := range effects {
				if got := h.count(effect) - before[effect]; got != want {
					t.Errorf("%s: %q happened %d times, want %d: %v", where, effect, got, want, h.effects)
				}
			}
		}
	}
}

func TestInstallSurvivesDeathAtEveryRequest(t *testing.T) {
	scenario(t, func(*fakeHost) {}, "v1", "h1", map[string]int{"create Orders": 1, "start Orders": 1, "stop Orders": 0})
}

func TestRestartHappensOnceWhereverTheOperatorDies(t *testing.T) {
	scenario(t, func(h *fakeHost) {
		must(t, h.machine(), job("install", 1, install("h1")...))
	}, "v1", "h2", map[string]int{"start Orders": 1, "stop Orders": 1, "create Orders": 0})
}

func TestRemovalSurvivesDeathAtEveryRequest(t *testing.T) {
	remove := []machine.Step{
		machine.StopService{Service: service}, machine.DeleteWindowsService{Name: orders},
		machine.RemoveFile{Path: config}, machine.Release{Subject: subject, Owner: us},
	}
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			h := newFakeHost(t)
			m := h.machine()
			must(t, m, job("install", 1, install("h1")...))
			h.breakAt, h.late = h.callCount()+n, late
			_, err := m.Start(t.Context(), job("remove-1", 1, remove...))
			m = h.machine()
			must(t, m, job("remove-2", 2, remove...))
			if h.count("stop Orders") != 1 || h.count("delete Orders") != 1 {
				t.Errorf("broken at request %d: %v", n, h.effects)
			}
			if err := m.Forget(t.Context(), []string{"install", "remove-1", "remove-2"}); err != nil {
				t.Fatal(err)
			}
			if left := h.disk.under(`C:\ProgramData`); len(left) != 0 {
				t.Errorf("broken at request %d: left on the host: %v", n, left)
			}
			if err == nil {
				break
			}
		}
	}
}
