package windows

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// startedFile is the receipt of a begun job.
type startedFile struct {
	ID      string    `json:"id"`
	Epoch   int64     `json:"epoch"`
	Boot    string    `json:"boot"`
	Started string    `json:"started"`
	Owner   ownerFile `json:"owner"`
	// Steps, Scripts and Seconds are there for jobs that run a script, which may outlive the
	// operator: how many steps there are, which of them are scripts, and the job's time.
	Steps   int   `json:"steps,omitempty"`
	Scripts []int `json:"scripts,omitempty"`
	Seconds int64 `json:"seconds,omitempty"`
}

// exitFile is the receipt of a finished job.
type exitFile struct {
	Code     int    `json:"code"`
	Step     int    `json:"step"`
	Message  string `json:"message,omitempty"`
	Finished string `json:"finished"`
	// Cancelled says that the job ended because a leader asked for it.
	Cancelled bool `json:"cancelled,omitempty"`
}

// receipts is what the two receipts of a job say.
type receipts struct {
	machine.JobState
	begun startedFile
}

// parseReceipt reads the receipts of a job. Without an exit receipt it is lost,
// as far as the two tell.
func parseReceipt(started, exit string) (receipts, error) {
	if started == "" && exit == "" {
		return receipts{JobState: machine.JobState{Phase: machine.JobAbsent}}, nil
	}
	r := receipts{JobState: machine.JobState{Phase: machine.JobLost}}
	if started != "" {
		if err := json.Unmarshal([]byte(started), &r.begun); err != nil {
			return r, fmt.Errorf("read the receipt of a job: %w", err)
		}
		r.Epoch, r.BootID, r.Started = r.begun.Epoch, r.begun.Boot, r.begun.Started
	}
	if exit == "" {
		return r, nil
	}
	var file exitFile
	if err := json.Unmarshal([]byte(exit), &file); err != nil {
		return r, fmt.Errorf("read the receipt of a job: %w", err)
	}
	r.JobState = file.over(r.JobState)
	return r, nil
}

// over adds to a begun job what its exit receipt says.
func (f exitFile) over(state machine.JobState) machine.JobState {
	state.ExitCode, state.Step, state.Message, state.Finished = f.Code, f.Step, f.Message, f.Finished
	switch {
	case f.Cancelled:
		state.Phase = machine.JobCancelled
	case f.Code != 0:
		state.Phase = machine.JobFailed
	default:
		state.Phase = machine.JobSucceeded
	}
	return state
}

// inFlight holds the jobs that this process carries out: its steps are requests
// of this process, so that no receipt on the host can tell whether it is still
// at work. It is shared by all machines, because a host may be reached by a new
// machine value while a job of the old one is not over.
type inFlight struct {
	mu   sync.Mutex
	jobs map[string]*flying
}

// flying is a job that is carried out: at which step it is, how it is ended, and
// a channel that is closed when it has.
type flying struct {
	step  int
	end   context.CancelCauseFunc
	ended chan struct{}
}

var jobsInFlight = &inFlight{jobs: map[string]*flying{}}

// enter takes a job, unless it is taken.
func (f *inFlight) enter(job string, end context.CancelCauseFunc) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.jobs[job] != nil {
		return false
	}
	f.jobs[job] = &flying{end: end, ended: make(chan struct{})}
	return true
}

func (f *inFlight) at(job string, step int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs[job].step = step
}

func (f *inFlight) leave(job string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.jobs[job].ended)
	delete(f.jobs, job)
}

func (f *inFlight) look(job string) (step int, running bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if found := f.jobs[job]; found != nil {
		return found.step, true
	}
	return 0, false
}

// cancel has a job end. It gives the channel that is closed when it has, nil if
// this process does not carry it out.
func (f *inFlight) cancel(job string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := f.jobs[job]
	if found == nil {
		return nil
	}
	found.end(errCancelled)
	return found.ended
}

// flight names a job of this host among those of all hosts.
func (m *Machine) flight(id string) string {
	return strings.Join([]string{m.address, key(m.state.dir), id}, "|")
}

// underway tells which jobs this process carries out now, and at which step each is.
func (m *Machine) underway(receipts []machine.JobReceipt) map[string]int {
	steps := map[string]int{}
	for _, receipt := range receipts {
		if step, running := jobsInFlight.look(m.flight(receipt.ID)); running {
			steps[receipt.ID] = step
		}
	}
	return steps
}

// withRunning tells a job that this process carries out from a lost one. One that
// was under way before the receipts were read may have ended meanwhile: its exit
// receipt is seen the next time.
func (m *Machine) withRunning(id string, state machine.JobState, before map[string]int) machine.JobState {
	if state.Phase != machine.JobLost {
		return state
	}
	step, running := jobsInFlight.look(m.flight(id))
	if !running {
		step, running = before[id]
	}
	if running {
		state.Phase, state.Step = machine.JobRunning, step
	}
	return state
}

// Forget implements machine.Machine. With the last receipt and the last mark
// the whole state directory goes.
func (m *Machine) Forget(ctx context.Context, ids []string) error {
	var lines []string
	for _, id := range ids {
		if err := checkJobID(id); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		if _, running := jobsInFlight.look(m.flight(id)); running {
			continue
		}
		m.cache.forget(m.state.started(id))
		m.cache.forget(m.state.exit(id))
		m.secured.Store(false)
		lines = append(lines, "rmdir /s /q "+quoted(m.state.job(id))+" 2>nul")
	}
	lines = append(lines, m.tidy()...)
	for _, line := range joinLines(lines) {
		if _, err := m.cmd(ctx, "forget jobs", line+"& exit 0"); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes what is empty: rmdir without /s does nothing to a directory that
// holds something. The epochs go when there is neither a mark nor a job.
func (m *Machine) tidy() []string {
	marks, jobs := quoted(m.state.marks()), quoted(m.state.jobs())
	return []string{
		"rmdir " + marks + " 2>nul",
		"rmdir " + jobs + " 2>nul",
		fmt.Sprintf("(if not exist %s if not exist %s (rmdir /s /q %s 2>nul& rmdir /s /q %s 2>nul& rmdir /s /q %s 2>nul& rmdir %s 2>nul))",
			marks, jobs, quoted(m.state.scripts()), quoted(m.state.blobs()), quoted(m.state.epochs()), quoted(m.state.dir)),
	}
}

// joinLines puts commands together into as few lines as cmd.exe has room for.
func joinLines(commands []string) []string {
	const tail = 32
	var lines []string
	for _, command := range commands {
		last := len(lines) - 1
		if last >= 0 && len(lines[last])+len(command)+tail < maxLine {
			lines[last] += "& " + command
			continue
		}
		lines = append(lines, command)
	}
	return lines
}
