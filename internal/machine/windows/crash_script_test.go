package windows

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// broken runs something again and again, breaking the connection at its first
// request, its second, and so on, before and after the effect of the request.
func brokenEverywhere(t *testing.T, least int, run func(h *fakeHost, arm func(), where string) error) {
	t.Helper()
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			h := newFakeHost(t)
			h.late = late
			where := fmt.Sprintf("request %d, late %v", n, late)
			err := run(h, func() { h.breakAt = h.callCount() + n }, where)
			if err == nil {
				if n < least {
					t.Errorf("%d requests only", n)
				}
				break
			}
			var lost *transport.LostError
			if !errors.As(err, &lost) {
				t.Errorf("%s: %v", where, err)
			}
		}
	}
}

// A script runs once or not at all, wherever its operator dies; and if it is the last
// step and ran, the job is known to have succeeded.
func TestScriptRunsOnceWhereverTheOperatorDies(t *testing.T) {
	for _, looks := range []int{0, 20} {
		brokenEverywhere(t, 15, func(h *fakeHost, arm func(), where string) error {
			text := fmt.Sprintf("rem once\nrem looks %d\n", looks)
			steps := []machine.Step{put(config, "x"), run(text, machine.Variable{Name: "A", Value: machine.Secret("b")})}
			m := h.machine()
			arm()
			_, err := m.Start(t.Context(), job("first", 5, steps...))
			m = h.machine()
			state := ended(t, m, "first")
			switch ran := h.count("script rem once"); {
			case ran == 1 && state.Phase != machine.JobSucceeded, ran == 0 && state.Phase != machine.JobLost && state.Phase != machine.JobAbsent, ran > 1:
				t.Errorf("%s: it ran %d times, and the job is %+v", where, ran, state)
			}
			if state.Phase == machine.JobAbsent {
				return err
			}
			again, startErr := m.Start(t.Context(), job("first", 6, steps...))
			if startErr != nil || again.Phase != state.Phase || h.count("script rem once") > 1 {
				t.Errorf("%s: started again: %+v, %v", where, again, startErr)
			}
			return err
		})
	}
}

func TestCancelIsCompletedByTheNext(t *testing.T) {
	brokenEverywhere(t, 8, func(h *fakeHost, arm func(), where string) error {
		late := h.late
		h.late = false
		m := orphanOf(t, h, run("rem looks 1000000\nrem child\n"))
		h.late = late
		arm()
		first, err := m.Cancel(t.Context(), "a", 6)
		next := h.machine()
		state, nextErr := next.Cancel(t.Context(), "a", 7)
		if nextErr != nil || state.Phase != machine.JobCancelled || h.runningScripts() != 0 || err == nil && first != state {
			t.Errorf("%s: %+v, then %+v, %v; %d processes left", where, first, state, nextErr, h.runningScripts())
		}
		if seen := receiptOf(t, h.machine(), "a"); seen != state {
			t.Errorf("%s: seen %+v after %+v", where, seen, state)
		}
		return err
	})
}

func TestFetchIsCompletedByTheNext(t *testing.T) {
	brokenEverywhere(t, 10, func(h *fakeHost, arm func(), where string) error {
		f := fetchOf("content")
		h.web = map[string]string{f.URL: "content"}
		m := h.machine()
		arm()
		_, err := m.Start(t.Context(), job("first", 5, f))
		must(t, h.machine(), job("second", 6, f))
		if h.disk.files[key(config)].content != "content" || h.count("download") > 2 {
			t.Errorf("%s: %v", where, h.effects)
		}
		// What a download that was broken off has left goes a day later.
		h.disk.now = h.disk.now.Add(25 * time.Hour)
		must(t, h.machine(), job("third", 6))
		if left := h.disk.under(`C:\ProgramData\isthmus\blobs`); len(left) != 0 {
			t.Errorf("%s: left %v", where, left)
		}
		return err
	})
}

// What a job has left goes with its receipts, and the last of all that is left with the last receipt.
func TestScriptsLeaveNothing(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	check := machine.Script{Text: "echo x\n", Timeout: time.Minute}
	observe(t, m, check)
	must(t, m, job("a", 1, run("echo y\n")))
	if err := m.Forget(t.Context(), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	if left := h.disk.under(`C:\ProgramData`); len(left) != 0 {
		t.Errorf("%v", left)
	}
	if got := observe(t, m, check).Answers[check]; got != (machine.ScriptState{Output: "x"}) || !h.disk.private[`c:\programdata\isthmus`] {
		t.Errorf("%+v", got)
	}
}
