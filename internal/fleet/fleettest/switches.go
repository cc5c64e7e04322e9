package fleettest

import (
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// What tests arrange and read. All methods may be called at any time.

func (h *Host) locked(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// Put places a file, as a person on the host would. Kind, mode and owner have defaults.
func (h *Host) Put(path string, file File) {
	h.locked(func() {
		if file.Kind == "" {
			file.Kind = machine.FileRegular
		}
		if file.Mode == 0 && strings.HasPrefix(path, "/") {
			file.Mode = 0o644
		}
		if file.Owner == "" && strings.HasPrefix(path, "/") {
			file.Owner, file.Group = "root", "root"
		}
		h.files[path] = &file
	})
}

// Delete removes a file, as a person on the host would.
func (h *Host) Delete(path string) { h.locked(func() { delete(h.files, path) }) }

// Content of a file; false if there is none.
func (h *Host) Content(path string) (content string, ok bool) {
	h.locked(func() {
		if file := h.files[path]; file != nil {
			content, ok = string(file.Content), true
		}
	})
	return content, ok
}

// AddUnit installs a unit as a package would.
func (h *Host) AddUnit(name, definition string) {
	h.Put(packageDirectory+name, File{Content: []byte(definition)})
}

// AddWindowsService installs a stopped service as a setup program would.
func (h *Host) AddWindowsService(service machine.CreateWindowsService) {
	h.locked(func() {
		journal := h.journal
		_ = h.createService(service) // It fails never.
		h.journal = journal
	})
}

// Run starts a service as a person on the host would: without a mark. A service that runs gets a new instance.
func (h *Host) Run(service machine.Service) { h.locked(func() { h.run(service) }) }

// Kill ends a service as a crash would.
func (h *Host) Kill(service machine.Service) {
	h.locked(func() {
		if service.Manager == machine.WindowsSCM {
			s := h.services[strings.ToLower(service.Name)]
			s.stopped()
			s.exit = 1067 // ERROR_PROCESS_ABORTED
			return
		}
		u := h.unit(service.Name)
		u.stopped()
		u.active, u.sub, u.result = "failed", "failed", "signal"
	})
}

// Ask answers a check now.
func (h *Host) Ask(check machine.Check) (answer machine.Answer) {
	h.locked(func() { answer = h.answer(check) })
	return answer
}

// SetMark writes a mark down, as another cluster would.
func (h *Host) SetMark(subject machine.Subject, mark machine.MarkState) {
	h.locked(func() { h.marks[subject] = mark })
}

// Journal lists the effects, in order: "put /etc/x", "restart systemd/x.service".
func (h *Host) Journal() (journal []string) {
	h.locked(func() { journal = slices.Clone(h.journal) })
	return journal
}

// Effects counts the entries of the journal that begin with a prefix.
func (h *Host) Effects(prefix string) int {
	count := 0
	for _, entry := range h.Journal() {
		if strings.HasPrefix(entry, prefix) {
			count++
		}
	}
	return count
}

// ClearJournal forgets the effects so far.
func (h *Host) ClearJournal() { h.locked(func() { h.journal = nil }) }

// Jobs lists the ids that the host has receipts of, sorted.
func (h *Host) Jobs() (ids []string) {
	h.locked(func() {
		for id := range h.jobs {
			ids = append(ids, id)
		}
	})
	slices.Sort(ids)
	return ids
}

// Job returns a job as it was received, and its state.
func (h *Host) Job(id string) (received machine.Job, state machine.JobState) {
	h.locked(func() {
		state.Phase = machine.JobAbsent
		if j := h.jobs[id]; j != nil {
			received, state = j.job, j.state
		}
	})
	return received, state
}

// Observations counts the passes that the host answered or failed.
func (h *Host) Observations() (count int) {
	h.locked(func() { count = h.observed })
	return count
}

// LastPass lists the checks of the latest pass.
func (h *Host) LastPass() (checks []machine.Check) {
	h.locked(func() {
		if len(h.passes) > 0 {
			checks = slices.Clone(h.passes[len(h.passes)-1])
		}
	})
	return checks
}

// Logins counts how often credentials were sent.
func (h *Host) Logins() (count int) {
	h.locked(func() { count = h.logins })
	return count
}

// Sessions counts the open connections.
func (h *Host) Sessions() (count int) {
	h.locked(func() { count = len(h.sessions) })
	return count
}

// SetHostKey sets what the host shows as its key over SSH. Without one, any is trusted.
func (h *Host) SetHostKey(key string) { h.locked(func() { h.key = key }) }

// SetPassword sets the only password that the host takes. Without one, any is taken.
func (h *Host) SetPassword(password string) { h.locked(func() { h.password = password }) }

// SetEpoch pretends that a leader with that epoch has been there.
func (h *Host) SetEpoch(epoch int64) { h.locked(func() { h.epoch = epoch }) }

// Stop makes the host refuse connections and ends those that there are; what runs on it goes on.
func (h *Host) Stop() {
	h.locked(func() {
		h.down = true
		clear(h.sessions)
	})
}

// Resume makes the host answer again, after Stop, Silence or a reboot in the middle of a job.
func (h *Host) Resume() { h.locked(func() { h.down, h.silent = false, false }) }

// Silence makes the host take requests and never answer.
func (h *Host) Silence() { h.locked(func() { h.silent = true }) }

// Drop ends the connections that there are; new ones can be made.
func (h *Host) Drop() { h.locked(func() { clear(h.sessions) }) }

// Reboot ends all processes and connections, loses running jobs, and starts what is enabled.
func (h *Host) Reboot() { h.locked(h.reboot) }

// RebootDuringNextJob reboots after a number of its steps. The host is down until Resume.
func (h *Host) RebootDuringNextJob(afterSteps int) { h.locked(func() { h.rebootAfter = afterSteps }) }

// FailConnect has the next Connects return errors.
func (h *Host) FailConnect(errs ...error) {
	h.locked(func() { h.connectErrs = append(h.connectErrs, errs...) })
}

// FailObserve has the next Observes return errors.
func (h *Host) FailObserve(errs ...error) {
	h.locked(func() { h.observeErrs = append(h.observeErrs, errs...) })
}

// RefuseJobs has the next Starts answered by a host that will not begin the job, for these reasons.
func (h *Host) RefuseJobs(reasons ...string) {
	h.locked(func() { h.refusals = append(h.refusals, reasons...) })
}

// SetProblem has a check answered by a Problem; a zero one ends that.
func (h *Host) SetProblem(check machine.Check, problem machine.Problem) {
	h.locked(func() {
		if problem == (machine.Problem{}) {
			delete(h.problems, check)
			return
		}
		h.problems[check] = problem
	})
}

// FailStart has every start of a service fail with a message; an empty one ends that.
func (h *Host) FailStart(service machine.Service, message string) {
	h.locked(func() { h.startErrs[service] = message })
}

// FailStep has the next step of a type ("PutFile", "ReloadUnits") fail with a message.
func (h *Host) FailStep(name, message string) { h.locked(func() { h.stepErrs[name] = message }) }

// LoseReply loses the replies to the next Starts.
func (h *Host) LoseReply(losses ...Loss) {
	h.locked(func() { h.losses = append(h.losses, losses...) })
}

// HoldJobs keeps jobs Running until FinishJobs.
func (h *Host) HoldJobs() { h.locked(func() { h.holding = true }) }

// FinishJobs carries out the jobs that run, in order of their ids, and holds no further ones.
func (h *Host) FinishJobs() {
	ids := h.Jobs()
	h.locked(func() {
		h.holding = false
		for _, id := range ids {
			if j := h.jobs[id]; j.state.Phase == machine.JobRunning {
				h.carryOut(j)
			}
		}
	})
}

// LoseJobs ends the jobs that run without a receipt.
func (h *Host) LoseJobs() {
	h.locked(func() {
		for _, j := range h.jobs {
			if j.state.Phase == machine.JobRunning {
				j.state.Phase = machine.JobLost
			}
		}
	})
}

// BlockStart makes Start wait until the returned function is called.
func (h *Host) BlockStart() (release func()) {
	blocked := make(chan struct{})
	h.locked(func() { h.blocked = blocked })
	return func() {
		h.locked(func() { h.blocked = nil })
		close(blocked)
	}
}

// Waiting counts the Starts that BlockStart holds.
func (h *Host) Waiting() (count int) {
	h.locked(func() { count = h.waiting })
	return count
}
