package windows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// process is a process of the host. Numbers of processes are used again, so one
// is known by its number together with the time of its creation.
type process struct {
	ID      int    `json:"pid"`
	Created string `json:"created"`
	parent  int
	line    string
}

// allProcesses lists what runs on the host.
func (m *Machine) allProcesses(ctx context.Context) ([]process, error) {
	instances, err := m.remote.Query(ctx, cimv2, "SELECT ProcessId,ParentProcessId,CreationDate,CommandLine FROM Win32_Process")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make([]process, 0, len(instances))
	for _, instance := range instances {
		id, err := strconv.Atoi(instance.String("ProcessId"))
		if err != nil {
			return nil, fmt.Errorf("process id %q: %w", instance.String("ProcessId"), err)
		}
		parent, _ := strconv.Atoi(instance.String("ParentProcessId"))
		all = append(all, process{ID: id, Created: instant(instance.String("CreationDate")), parent: parent, line: instance.String("CommandLine")})
	}
	return all, nil
}

// scriptLine is what the command line of the process of a script, and of no
// other, holds: the name of its wrapper.
func (m *Machine) scriptLine(id string, step int) string {
	return strings.ToLower(m.state.run(id, step, "run") + ".cmd")
}

// runs says that a process is the one that a line is the mark of.
func (p process) runs(line string) bool { return strings.Contains(strings.ToLower(p.line), line) }

// below finds the processes that descend from some, which may have ended. A
// parent is only a number: a process that is older than what its number names
// is not its child, nor is one of a later process with the same number.
func below(all, ancestors []process) []process {
	found := map[process]bool{}
	queue := append([]process(nil), ancestors...)
	var tree []process
	for len(queue) > 0 {
		ancestor := queue[0]
		queue = queue[1:]
		for _, p := range all {
			if found[p] || p.parent != ancestor.ID || !since(p, ancestor) || p.ID == ancestor.ID || heir(all, ancestor, p) {
				continue
			}
			found[p] = true
			tree, queue = append(tree, p), append(queue, p)
		}
	}
	return tree
}

// heir says that the parent of p is a later process with the number of the ancestor.
func heir(all []process, ancestor, p process) bool {
	for _, other := range all {
		if other.ID == ancestor.ID && other.Created != ancestor.Created && since(p, other) {
			return true
		}
	}
	return false
}

// since says that p was created with or after another process.
func since(p, other process) bool {
	a, errA := time.Parse(time.RFC3339Nano, p.Created)
	b, errB := time.Parse(time.RFC3339Nano, other.Created)
	return errA == nil && errB == nil && !a.Before(b)
}

// endTree ends the processes that a line is the mark of, the one that is written
// down, and all that descend from them. The first of them goes first, so that it
// takes no end of the others for that of the script; what they start meanwhile
// is found in the next round.
func (m *Machine) endTree(ctx context.Context, line string, recorded process) error {
	const rounds = 20
	var ended []process
	if recorded.Created != "" {
		ended = append(ended, recorded)
	}
	for range rounds {
		all, err := m.allProcesses(ctx)
		if err != nil {
			return err
		}
		var alive []process
		for _, p := range all {
			if p.runs(line) || p.ID == recorded.ID && p.Created == recorded.Created {
				alive = append(alive, p)
			}
		}
		alive = append(alive, below(all, append(alive, ended...))...)
		if len(alive) == 0 {
			return nil
		}
		for _, p := range alive {
			if err := m.terminate(ctx, p); err != nil {
				return err
			}
		}
		ended = append(ended, alive...)
		if err := m.wait(ctx); err != nil {
			return err
		}
	}
	return errors.New("processes of the script could not be ended")
}

// terminate ends one process; one that is gone has ended.
func (m *Machine) terminate(ctx context.Context, p process) error {
	_, err := m.remote.Invoke(ctx, cimv2, "Win32_Process", map[string]string{"Handle": strconv.Itoa(p.ID)}, "Terminate",
		[]winrm.Param{param("Reason", strconv.Itoa(exitCancelled))})
	var fault *winrm.Fault
	if errors.As(err, &fault) {
		return nil // Whether it lives on, the next look tells.
	}
	if err != nil {
		return fmt.Errorf("end process %d: %w", p.ID, err)
	}
	return nil
}

// overdue says that the time of a job is over.
func (f startedFile) overdue(host clock) bool {
	begun, errBegun := time.Parse(time.RFC3339Nano, f.Started)
	now, errNow := time.Parse(time.RFC3339Nano, host.now)
	return errBegun == nil && errNow == nil && now.Sub(begun) > time.Duration(f.Seconds)*time.Second
}

// orphan judges a begun job without an exit receipt that nobody in this process
// carries out. Its operator is gone; a script of it may run on, or have ended. A
// job whose end was begun and not finished counts as running, because processes
// of it may.
func (m *Machine) orphan(ctx context.Context, r receipts, host clock) (machine.JobState, error) {
	state, err := m.judge(ctx, r, host)
	if err != nil || state.Phase != machine.JobLost || len(r.begun.Scripts) == 0 || r.begun.Boot != host.boot {
		return state, err
	}
	ending := m.state.ending(r.begun.ID)
	contents, err := m.typeFiles(ctx, []string{ending})
	if err != nil {
		return state, fmt.Errorf("read the receipts of job %s: %w", r.begun.ID, err)
	}
	if contents[ending] != "" {
		state.Phase, state.Message = machine.JobRunning, "its end was begun and broken off; cancel it again"
	}
	return state, nil
}

// judge says what the receipts and processes of a job's scripts tell.
func (m *Machine) judge(ctx context.Context, r receipts, host clock) (machine.JobState, error) {
	state := r.JobState
	var all []process
	for i := len(r.begun.Scripts) - 1; i >= 0; i-- {
		step := r.begun.Scripts[i]
		view, err := m.look(ctx, r.begun.ID, step)
		if err != nil {
			return state, err
		}
		if !view.ended && r.begun.Boot == host.boot {
			if all == nil {
				if all, err = m.allProcesses(ctx); err != nil {
					return state, err
				}
			}
			if find(all, m.scriptLine(r.begun.ID, step)) {
				state.Phase, state.Step = machine.JobRunning, step
				if r.begun.overdue(host) {
					state.Message = "the job is over its time and its operator is gone; it is ended when it is cancelled, or asked for again"
				}
				return state, nil
			}
			// It may have ended since the first look.
			if view, err = m.look(ctx, r.begun.ID, step); err != nil {
				return state, err
			}
		}
		if view.began || view.ended {
			return r.after(step, view, r.begun.Boot == host.boot), nil
		}
	}
	return state, nil
}

func find(all []process, line string) bool {
	for _, p := range all {
		if p.runs(line) {
			return true
		}
	}
	return false
}

// after is the state of a job of which the script of a step is the last that is known.
func (r receipts) after(step int, view scriptView, sameBoot bool) machine.JobState {
	state := r.JobState
	state.Step = step
	switch {
	case !view.ended && !sameBoot:
		state.Message = "the host was restarted while the script ran: how far it came is not known"
	case !view.ended:
		state.Message = "the script's process is gone and has left no receipt: how far it came is not known"
	case view.stale:
		state.Message = "a newer leader was obeyed before the script began; it did not run"
	case view.code != 0:
		state.Phase, state.ExitCode, state.Finished = machine.JobFailed, int(view.code), view.finished
		state.Message = fmt.Sprintf("the script ended with exit code %d after its operator was gone; what it printed is on the host", view.code)
	case step == r.begun.Steps-1:
		state.Phase, state.Step, state.Finished = machine.JobSucceeded, 0, view.finished
	default:
		state.Step = step + 1
		state.Message = "the script ended well after its operator was gone; the steps after it were not done"
	}
	return state
}

// recorded is the process that was written down for the script of a step, if one was.
func (m *Machine) recorded(ctx context.Context, id string, step int) (process, error) {
	path := m.state.run(id, step, "process")
	contents, err := m.typeFiles(ctx, []string{path})
	if err != nil || contents[path] == "" {
		return process{}, err
	}
	var p process
	if err := json.Unmarshal([]byte(contents[path]), &p); err != nil {
		return process{}, fmt.Errorf("read which process the script has: %w", err)
	}
	return p, nil
}
