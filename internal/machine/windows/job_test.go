package windows

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

func TestJobBeginsOnce(t *testing.T) {
	h := newFakeHost(t)
	j := job("install-1", 1, install("h1")...)
	first := must(t, h.machine(), j)
	again, err := h.machine().Start(t.Context(), j)
	if err != nil || again != first {
		t.Errorf("%+v, %v", again, err)
	}
	if h.count("create Orders") != 1 || h.count("start Orders") != 1 {
		t.Errorf("effects %v", h.effects)
	}
}

func TestStaleLeaderIsRefused(t *testing.T) {
	h := newFakeHost(t)
	must(t, h.machine(), job("a", 7, install("h1")...))
	before := len(h.effects)
	_, err := h.machine().Start(t.Context(), job("b", 6, put(config, "old")))
	var stale *machine.StaleLeaderError
	if !errors.As(err, &stale) || stale.Seen != 7 || stale.Epoch != 6 {
		t.Errorf("error %v", err)
	}
	if len(h.effects) != before {
		t.Errorf("effects %v", h.effects[before:])
	}
	must(t, h.machine(), job("c", 7, put(config, "new")))
}

// A leader that was frozen between two steps does nothing when it wakes up.
func TestLeaderThatIsReplacedInTheMiddle(t *testing.T) {
	for _, at := range []string{"invoke StopService", "invoke StartService", "run # isthmus:deliver"} {
		h := newFakeHost(t)
		must(t, h.machine(), job("a", 1, install("h1")...))
		woken := false
		before := 0
		h.hook = func(call string) {
			// The request before the effect is the one that reads the epoch; the new
			// leader comes while it is prepared.
			if !woken && strings.HasPrefix(call, "run dir /b") && h.next(at) {
				woken = true
				before = len(h.effects)
				h.disk.mkdir(`C:\ProgramData\isthmus\epoch\0000000000000000009`)
			}
		}
		_, err := h.machine().Start(t.Context(), job("b", 2, put(config, "v2"), machine.RestartService{Service: service, Hash: "h2"}))
		var stale *machine.StaleLeaderError
		if !errors.As(err, &stale) || !woken {
			t.Errorf("%s: error %v", at, err)
		}
		if len(h.effects) != before {
			t.Errorf("%s: effects %v", at, h.effects[before:])
		}
	}
}

// next tells whether the job of the test above is about to do something.
func (h *fakeHost) next(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.services["orders"]
	delivered := slices.Contains(h.effects[4:], "deliver "+config)
	switch what {
	case "invoke StopService":
		return delivered && s.state == running
	case "invoke StartService":
		return delivered && s.state == stopped
	default:
		return !delivered
	}
}

func TestJobTimesOut(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	h.services["orders"].pending = 1 << 30
	late := job("b", 1, machine.StopService{Service: service})
	late.Timeout = 50 * time.Millisecond
	state, err := m.Start(t.Context(), late)
	if err != nil || state.Phase != machine.JobFailed || state.ExitCode != 124 || state.Finished == "" {
		t.Errorf("%+v, %v", state, err)
	}
}

// TestJobThatEndsWhileReceiptsAreReadIsNotLost: its exit receipt comes after the
// listing of receipts, and the job is no longer under way when they are judged.
func TestJobThatEndsWhileReceiptsAreReadIsNotLost(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	h.services["orders"].pending = 1 << 30
	var group sync.WaitGroup
	group.Go(func() { must(t, m, job("b", 1, put(config, "v2"), machine.StopService{Service: service})) })
	for deadline := time.Now().Add(5 * time.Second); h.count("stop Orders") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the job does not get to its second step")
		}
	}
	ended := false
	h.mu.Lock()
	h.hook = func(call string) {
		if ended || !strings.Contains(call, "type ") {
			return
		}
		ended = true
		h.mu.Lock()
		h.services["orders"].pending = 0
		h.mu.Unlock()
		group.Wait()
	}
	h.mu.Unlock()
	receipt := machine.JobReceipt{ID: "b"}
	observer := h.machine()
	state := observe(t, observer, receipt).Answers[receipt].(machine.JobState)
	if !ended || state.Phase != machine.JobRunning {
		t.Errorf("ended while receipts were read: %t; %+v", ended, state)
	}
	if state := observe(t, observer, receipt).Answers[receipt].(machine.JobState); state.Phase != machine.JobSucceeded {
		t.Errorf("%+v", state)
	}
}

func TestJobIsRunningWhileThisProcessIsAtWork(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	must(t, m, job("a", 1, install("h1")...))
	h.services["orders"].pending = 1 << 30
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		_, err := m.Start(ctx, job("b", 1, put(config, "v2"), machine.StopService{Service: service}))
		var lost *transport.LostError
		if !errors.As(err, &lost) {
			t.Errorf("error %v, want a LostError", err)
		}
	})
	receipt := machine.JobReceipt{ID: "b"}
	for deadline := time.Now().Add(5 * time.Second); h.count("stop Orders") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the job does not get to its second step")
		}
	}
	// A second machine of the same process sees the same.
	if state := observe(t, h.machine(), receipt).Answers[receipt].(machine.JobState); state.Phase != machine.JobRunning || state.Step != 1 {
		t.Errorf("%+v", state)
	}
	if state, err := m.Start(t.Context(), job("b", 1)); err != nil || state.Phase != machine.JobRunning {
		t.Errorf("started again: %+v, %v", state, err)
	}
	if err := m.Forget(t.Context(), []string{"b"}); err != nil {
		t.Error(err)
	}
	cancel()
	group.Wait()
	if state := observe(t, m, receipt).Answers[receipt].(machine.JobState); state.Phase != machine.JobLost || state.Epoch != 1 {
		t.Errorf("%+v", state)
	}
}

func TestRefusals(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	secret := job("a", 1, machine.RemoveFile{Path: `C:\geheim%`})
	secret.Secrets = []machine.Secret{machine.Secret("geheim")}
	state, err := m.Start(t.Context(), secret)
	if err != nil || state.Phase != machine.JobFailed || strings.Contains(state.Message, "geheim") || !strings.Contains(state.Message, "[redacted]") {
		t.Errorf("%+v, %v", state, err)
	}
	for i, step := range []machine.Step{
		machine.ReloadUnits{}, machine.EnableUnit{Unit: "x"}, machine.StartService{Service: machine.Service{Manager: machine.Systemd, Name: "x"}},
		machine.PutFile{Path: config, Content: machine.Secret("a"), SHA256: digest("b")}, machine.StartService{Service: service},
		machine.CreateWindowsService{Name: `a/b`, StartMode: manual},
	} {
		state, err := m.Start(t.Context(), job(fmt.Sprint("r-", i), 1, step))
		if err != nil || state.Phase != machine.JobFailed || state.Message == "" {
			t.Errorf("%T: %+v, %v", step, state, err)
		}
	}
	if len(h.effects) != 0 {
		t.Errorf("effects %v", h.effects)
	}
	for _, bad := range []machine.Job{{ID: "A B", Timeout: 1}, {ID: "a"}, {ID: "a", Timeout: 1, Epoch: -1}} {
		if _, err := m.Start(t.Context(), bad); err == nil {
			t.Errorf("job %+v was taken", bad)
		}
	}
	if _, err := New(h, Options{StateDir: `%TEMP%`}); err == nil {
		t.Error("the state directory was taken")
	}
}

// A restart whose start has happened, as the mark and the instance tell, is not
// done again; one whose start has not is.
func TestRestartThatWasBegunIsFinished(t *testing.T) {
	for hash, restarts := range map[string]int{"h2": 0, "h3": 1} {
		h := newFakeHost(t)
		m := h.machine()
		must(t, m, job("a", 1, install("h1")...))
		before := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState)
		line, err := cmdJSON(markFile{Subject: subject, Owner: ownerFile(us), Started: "h0", Instance: "1@earlier", Pending: "h2", Before: "1@earlier"})
		if err != nil {
			t.Fatal(err)
		}
		h.disk.write(m.state.mark(subject), line+"\r\n")
		must(t, m, job("b", 1, machine.RestartService{Service: service, Hash: hash}))
		if h.count("stop Orders") != restarts || h.count("start Orders") != 1+restarts {
			t.Errorf("%s: effects %v", hash, h.effects)
		}
		after := observe(t, m, ownMark).Answers[ownMark].(machine.MarkState)
		if after.Started != hash || after.Pending != "" || after.Before != "" || (after.Instance == before.Instance) != (restarts == 0) {
			t.Errorf("%s: mark %+v", hash, after)
		}
	}
}

func TestJobWhoseConnectionGoesAwayIsLost(t *testing.T) {
	for n := 1; n < 20; n++ {
		h := newFakeHost(t)
		m := h.machine()
		h.unreachable, h.breakAt = true, n
		var lost *transport.LostError
		if _, err := m.Start(t.Context(), job("a", 1, install("h1")...)); !errors.As(err, &lost) {
			t.Errorf("request %d: error %v, want a LostError", n, err)
		}
	}
}

// A name may stand for several addresses, and each new connection may take another
// of them: a job stays the same job.
func TestAddressMayChangeWhileAJobRuns(t *testing.T) {
	h := newFakeHost(t)
	m := h.machine()
	h.hook = func(call string) {
		if strings.HasPrefix(call, "run mkdir") {
			h.address = netip.MustParseAddrPort("[::1]:5986")
		}
	}
	if state := must(t, m, job("a", 1, install("h1")...)); state.Phase != machine.JobSucceeded {
		t.Errorf("%+v", state)
	}
}

// Any user may put a link where the state directory or one in it is to be, and
// would read and write what is put there.
func TestStateDirectoryThatIsALinkIsRefused(t *testing.T) {
	for _, link := range []string{`C:\ProgramData\isthmus`, `C:\ProgramData\isthmus\jobs`} {
		h := newFakeHost(t)
		h.disk.mkdir(link)
		h.disk.links[key(link)] = true
		before := len(h.disk.files)
		for range 2 {
			_, err := h.machine().Start(t.Context(), job("a", 1, install("h1")...))
			var refused *machine.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "is a link") {
				t.Errorf("%s: error %v", link, err)
			}
		}
		if len(h.effects) != 0 || len(h.disk.files) != before {
			t.Errorf("%s: effects %v", link, h.effects)
		}
	}
}
