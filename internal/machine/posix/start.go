package posix

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	maxStartAnswer = 64 << 10
	// shortJob is how long Start waits for the end of a job, in twentieths of a second.
	shortJob = 40
)

// Start implements machine.Machine.
func (m *Machine) Start(ctx context.Context, job machine.Job) (machine.JobState, error) {
	compiled, err := m.compileJob(job)
	if err != nil {
		return machine.JobState{}, fmt.Errorf("start job %s: %w", job.ID, err)
	}
	r := m.newRequest()
	m.compileStart(r, job, compiled)
	answer, _, err := m.send(ctx, "start job "+job.ID, r, maxStartAnswer)
	if err != nil {
		return machine.JobState{}, err
	}
	return readReceipt(answer, "start", job.ID, job.Epoch)
}

// Cancel implements machine.Machine.
func (m *Machine) Cancel(ctx context.Context, id string, epoch int64) (machine.JobState, error) {
	if err := validJobID(id); err != nil {
		return machine.JobState{}, fmt.Errorf("cancel: %w", err)
	}
	if epoch < 0 {
		return machine.JobState{}, errors.New("cancel: a leader's epoch is not negative")
	}
	r := m.newRequest()
	m.jobVariables(&r.script, machine.Job{ID: id, Epoch: epoch})
	r.use("process", "receipt", "epoch", "cancel")
	r.line("cancel")
	answer, _, err := m.send(ctx, "cancel job "+id, r, maxStartAnswer)
	if err != nil {
		return machine.JobState{}, err
	}
	return readReceipt(answer, "cancel", id, epoch)
}

// compileStart delivers a job and launches it, unless the host knows it already.
func (m *Machine) compileStart(r *request, job machine.Job, compiled string) {
	digest := sha256.Sum256([]byte(compiled))
	m.jobVariables(&r.script, job)
	r.line("X=$J/script.$n")
	r.use("process", "receipt", "epoch", "prepare", "start")
	r.line("deliver() {")
	r.line(`mkdir -p "$J"`)
	r.line(`cat >"$X" <<'ISTHMUS_%s'`, r.nonce)
	r.WriteString(compiled)
	r.line("ISTHMUS_%s", r.nonce)
	r.line("}")
	r.line("submit %s %d", hex.EncodeToString(digest[:]), shortJob)
}

// readReceipt reads the answer to a Start or a Cancel.
func readReceipt(answer, verb, id string, epoch int64) (machine.JobState, error) {
	read := jobReading{}
	for line := range strings.Lines(answer) {
		tag, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch tag {
		case "s":
			seen, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				break
			}
			return machine.JobState{}, &machine.StaleLeaderError{Epoch: epoch, Seen: seen}
		case "x":
			return machine.JobState{}, &machine.RefusedError{JobID: id, Reason: excerpt(rest)}
		case "j", "o":
			_, rest, _ = strings.Cut(rest, " ")
			read.line(tag, rest)
		}
	}
	state, ok := read.answer().(machine.JobState)
	if !ok || verb == "start" && state.Phase == machine.JobAbsent {
		return machine.JobState{}, errors.New(verb + " job " + id + ": the host gave no answer that can be read")
	}
	return state, nil
}

// Forget implements machine.Machine.
func (m *Machine) Forget(ctx context.Context, ids []string) error {
	r := m.newRequest()
	r.use("process", "receipt", "prepare", "forget")
	for _, id := range ids {
		if err := validJobID(id); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		r.line("forget %s", id)
	}
	r.line("leave")
	_, _, err := m.send(ctx, "forget jobs", r, maxStartAnswer)
	return err
}
