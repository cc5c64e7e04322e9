package windows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

const (
	// maxOnDisk is how much a script may print before it is ended: its output goes to the host's disk.
	maxOnDisk = 256 << 20
	// slower is how much longer the pauses between two looks at a script become.
	slower = 8
)

// ScriptError says that a script ended with another code than zero.
type ScriptError struct {
	Code   int64
	Output string // the end of what it printed, redacted
}

func (e *ScriptError) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("the script ended with exit code %d and printed nothing", e.Code)
	}
	return fmt.Sprintf("the script ended with exit code %d: %s", e.Code, e.Output)
}

// lostScriptError says that it is not known how far a script came.
type lostScriptError struct{ reason string }

func (e *lostScriptError) Error() string { return "the script's outcome is not known: " + e.reason }

// unseen is the error of a host that could not be asked about a script that has
// begun. Nothing is known of the script by it: that a query of ours failed is no
// end of the job.
func unseen(err error) error {
	if err == nil || broken(err) {
		return err
	}
	return &lostScriptError{err.Error()}
}

// scriptView is what the host tells of the script of a step.
type scriptView struct {
	began, ended bool
	stale        bool // it refused to begin: a newer leader was obeyed
	code         int64
	finished     string // when it ended, by the host's clock
	size         int64  // of its output
}

// runScript has the host run a script outside of any shell, so that it outlives
// the connection and this operator, and waits for its receipt.
func (w *work) runScript(ctx context.Context, step machine.RunScript) error {
	s, err := newScript(w.state, w.job.ID, w.at, w.job.Epoch, step)
	if err != nil {
		return err
	}
	for _, file := range s.files {
		if err := w.putFile(ctx, file); err != nil {
			return fmt.Errorf("deliver the script: %w", err)
		}
	}
	if err := w.fence(ctx); err != nil {
		return err
	}
	p, err := w.launch(ctx, s.run)
	if err != nil {
		return err
	}
	view, err := w.awaitScript(ctx, p)
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errJobTime) || errors.Is(cause, errCancelled)) {
		view, err = w.endScript(ctx, p, err)
	}
	if err != nil {
		return err
	}
	return w.concludeScript(context.WithoutCancel(ctx), step, view)
}

// launch creates the process of a script and writes down which one it is. It is
// asked for once: an answer that is lost ends the job's steps.
func (w *work) launch(ctx context.Context, run string) (process, error) {
	line := `cmd.exe /d /s /c "` + quoted(run) + `"`
	output, err := w.remote.Invoke(ctx, cimv2, "Win32_Process", nil, create, []winrm.Param{param("CommandLine", line)})
	if tookLong(err) {
		return process{}, &lostScriptError{"the host did not say in time whether it began"}
	}
	if err != nil {
		return process{}, fmt.Errorf("start the script: %w", err)
	}
	if value := output.String("ReturnValue"); value != "0" {
		return process{}, fmt.Errorf("start the script: Win32_Process.Create returned %s", value)
	}
	pid, err := strconv.Atoi(output.String("ProcessId"))
	if err != nil {
		return process{}, fmt.Errorf("start the script: process id %q", output.String("ProcessId"))
	}
	created, err := w.processes(ctx, []string{strconv.Itoa(pid)})
	if err != nil {
		return process{}, unseen(fmt.Errorf("look for the script's process: %w", err))
	}
	p := process{ID: pid, Created: created[pid]}
	if p.Created == "" {
		return p, nil // It has ended already.
	}
	if err := w.replace(ctx, w.state.run(w.job.ID, w.at, "process"), p); err != nil {
		return p, unseen(fmt.Errorf("write down the script's process: %w", err))
	}
	return p, nil
}

// awaitScript waits for the receipt of a script by looking.
func (w *work) awaitScript(ctx context.Context, p process) (scriptView, error) {
	for pause, gone := w.poll, false; ; pause = min(pause*3/2, slower*w.poll) {
		view, err := w.look(ctx, w.job.ID, w.at)
		switch {
		case err != nil || view.ended:
			return view, unseen(err)
		case gone:
			return view, &lostScriptError{"its process is gone and has left no receipt"}
		case view.size > maxOnDisk:
			_, err := w.endScript(ctx, p, nil)
			return view, errors.Join(fmt.Errorf("the script printed more than %d MiB and was ended", maxOnDisk>>20), err)
		}
		created, err := w.processes(ctx, []string{strconv.Itoa(p.ID)})
		if err != nil {
			return view, unseen(err)
		}
		if gone = p.Created == "" || created[p.ID] != p.Created; gone {
			continue // It may have written its receipt just before.
		}
		if err := waitFor(ctx, pause); err != nil {
			return view, fmt.Errorf("wait for the script: %w", err)
		}
	}
}

// endScript ends a script with all that it started. If it has come to its end
// before, its receipt counts; otherwise the reason does.
func (w *work) endScript(ctx context.Context, p process, reason error) (scriptView, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiptTime)
	defer cancel()
	if err := w.intend(ctx, exitFile{Step: w.at}); err != nil {
		return scriptView{}, err
	}
	if err := w.endTree(ctx, w.scriptLine(w.job.ID, w.at), p); err != nil {
		return scriptView{}, err
	}
	view, err := w.look(ctx, w.job.ID, w.at)
	if err == nil && !view.ended {
		err = reason
	}
	return view, err
}

// concludeScript reads what a script printed and judges how it ended.
func (w *work) concludeScript(ctx context.Context, step machine.RunScript, view scriptView) error {
	if view.stale {
		if err := w.fence(ctx); err != nil {
			return err
		}
		return &machine.StaleLeaderError{Epoch: w.job.Epoch, Seen: w.job.Epoch + 1}
	}
	text, err := w.readOutput(ctx, w.state.run(w.job.ID, w.at, "output"), view.size, w.hidden(step))
	if err != nil {
		return unseen(fmt.Errorf("read what the script printed: %w", err))
	}
	w.printed = ending(text, maxMessage*9/10)
	if view.code != 0 {
		return &ScriptError{Code: view.code, Output: w.printed}
	}
	return nil
}

// endedFile is the receipt of a script, which its wrapper writes.
type endedFile struct {
	Code  int64 `json:"code"`
	Stale bool  `json:"stale"`
}

// look asks what became of the script of a step.
func (m *Machine) look(ctx context.Context, id string, step int) (scriptView, error) {
	ended, began, output := m.state.run(id, step, "ended"), m.state.run(id, step, "began")+`\at`, m.state.run(id, step, "output")
	found, err := m.stamps(ctx, []string{ended, began, output})
	if err != nil {
		return scriptView{}, fmt.Errorf("look for the script's receipt: %w", err)
	}
	_, hasBegun := found[key(began)]
	receipt, hasEnded := found[key(ended)]
	view := scriptView{began: hasBegun, ended: hasEnded, size: found[key(output)].size, finished: receipt.modified}
	if !hasEnded {
		return view, nil
	}
	contents, err := m.typeFiles(ctx, []string{ended})
	if err != nil {
		return view, fmt.Errorf("read the script's receipt: %w", err)
	}
	var file endedFile
	if err := json.Unmarshal([]byte(contents[ended]), &file); err != nil {
		return view, fmt.Errorf("read the script's receipt: %w", err)
	}
	view.code, view.stale = file.Code, file.Stale
	return view, nil
}
