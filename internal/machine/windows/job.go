package windows

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// exitFailed and exitTimedOut are the exit codes of a job.
	exitFailed   = 1
	exitTimedOut = 124
	// receiptTime bounds the writing of the exit receipt of a job whose own time is over.
	receiptTime = 15 * time.Second
	// maxMessage is less than what a line has room for when every byte is escaped.
	maxMessage = 1000
)

var errJobTime = errors.New("the job ran out of time")

// Start implements machine.Machine. It returns when the job is over: its steps
// are requests of this process. When the connection is lost in the middle, or
// ctx ends, it returns a LostError and leaves the receipts as they are.
func (m *Machine) Start(ctx context.Context, job machine.Job) (machine.JobState, error) {
	if err := checkJob(job); err != nil {
		return machine.JobState{}, err
	}
	flight := m.flight(job.ID)
	if !jobsInFlight.enter(flight) {
		return machine.JobState{Phase: machine.JobRunning, Epoch: job.Epoch}, nil
	}
	defer jobsInFlight.leave(flight)
	w := &work{Machine: m, job: job}
	state, begun, err := w.begin(ctx)
	if err == nil && begun {
		state, err = w.carryOut(ctx, state)
	}
	if err == nil {
		return state, nil
	}
	return machine.JobState{}, lostJob(job.ID, err)
}

// lostJob says of a job whose connection went away that its outcome is unknown,
// also when what failed last was to connect again. Refused credentials and a
// changed identity keep their own names, because they end all attempts.
func lostJob(id string, err error) error {
	var (
		lost        *transport.LostError
		credentials *transport.CredentialsError
		trust       *transport.TrustError
	)
	if !broken(err) || errors.As(err, &lost) || errors.As(err, &credentials) || errors.As(err, &trust) {
		return err
	}
	return &transport.LostError{Doing: "job " + id, Err: err}
}

func checkJob(job machine.Job) error {
	if err := checkJobID(job.ID); err != nil {
		return err
	}
	if job.Timeout <= 0 {
		return fmt.Errorf("job %s: a timeout is required", job.ID)
	}
	if job.Epoch < 0 {
		return fmt.Errorf("job %s: epoch %d", job.ID, job.Epoch)
	}
	return nil
}

// begin makes the leader known, and the job's directory, which the host makes
// for one of all who ask. A job that is there already is not begun.
func (w *work) begin(ctx context.Context) (state machine.JobState, begun bool, err error) {
	if err := w.raise(ctx); err != nil {
		return state, false, err
	}
	known, err := w.receipt(ctx)
	if err != nil || known.Phase != machine.JobAbsent {
		return known, false, err
	}
	host, err := w.clock(ctx)
	if err != nil {
		return state, false, fmt.Errorf("begin job %s: %w", w.job.ID, err)
	}
	line, err := w.beginLine(host)
	if err != nil {
		return state, false, err
	}
	_, err = w.cmd(ctx, "begin job "+w.job.ID, line)
	var refused *CommandError
	if errors.As(err, &refused) && refused.Code == exitExists {
		// Somebody began it since, or died before its receipt was written.
		known, err := w.receipt(ctx)
		if known.Phase == machine.JobAbsent {
			known.Phase = machine.JobLost
		}
		return known, false, err
	}
	if err != nil {
		return state, false, err
	}
	return machine.JobState{Epoch: w.job.Epoch, BootID: host.boot, Started: host.now}, true, nil
}

func (w *work) beginLine(host clock) (string, error) {
	receipt, err := cmdJSON(startedFile{
		ID: w.job.ID, Epoch: w.job.Epoch, Boot: host.boot, Started: host.now, Owner: ownerFile(w.job.Owner),
	})
	if err != nil {
		return "", err
	}
	dir := quoted(w.state.job(w.job.ID))
	// mkdir makes the directory for one of all who ask at the same time. Whoever
	// finds it there, or cannot write into it, has not begun the job.
	return fmt.Sprintf("mkdir %[1]s 2>nul& if errorlevel 1 (if exist %[1]s (exit %[4]d) else (exit 1))"+
		" else (echo %[2]s>%[3]s& if errorlevel 1 (exit %[4]d) else (exit 0))",
		dir, receipt, quoted(w.state.started(w.job.ID)), exitExists), nil
}

// receipt reads the job's receipts as they are now.
func (w *work) receipt(ctx context.Context) (machine.JobState, error) {
	started, exit := w.state.started(w.job.ID), w.state.exit(w.job.ID)
	contents, err := w.typeFiles(ctx, []string{started, exit})
	if err != nil {
		return machine.JobState{}, fmt.Errorf("read the receipts of job %s: %w", w.job.ID, err)
	}
	return parseReceipt(contents[started], contents[exit])
}

// carryOut does the steps of a begun job and writes its exit receipt.
func (w *work) carryOut(ctx context.Context, state machine.JobState) (machine.JobState, error) {
	timed, cancel := context.WithTimeoutCause(ctx, w.job.Timeout, errJobTime)
	defer cancel()
	step, err := w.steps(timed)
	exit := exitFile{Step: step}
	if err != nil {
		// Only the job's own time makes an end of a request that broke off.
		late := errors.Is(context.Cause(timed), errJobTime)
		var stale *machine.StaleLeaderError
		if errors.As(err, &stale) || broken(err) && !late {
			return state, err
		}
		exit.Code, exit.Message = exitFailed, err.Error()
		if late {
			exit.Code, exit.Message = exitTimedOut, fmt.Sprintf("%v after %v: %v", errJobTime, w.job.Timeout, err)
		}
		exit.Message = printable(redact(exit.Message, w.job.Secrets))
	}
	return w.finish(ctx, state, exit)
}

// steps carries out the steps; it gives the index of the one that failed.
func (w *work) steps(ctx context.Context) (int, error) {
	for i, step := range w.job.Steps {
		jobsInFlight.at(w.flight(w.job.ID), i)
		err := w.fence(ctx)
		if err == nil {
			err = w.do(ctx, step)
		}
		if err != nil {
			return i, err
		}
	}
	return 0, nil
}

func (w *work) finish(ctx context.Context, state machine.JobState, exit exitFile) (machine.JobState, error) {
	ctx, cancel := context.WithTimeout(ctx, receiptTime)
	defer cancel()
	host, err := w.clock(ctx)
	if err != nil {
		return state, fmt.Errorf("finish job %s: %w", w.job.ID, err)
	}
	exit.Finished = host.now
	if err := w.replace(ctx, w.state.exit(w.job.ID), exit); err != nil {
		return state, fmt.Errorf("finish job %s: %w", w.job.ID, err)
	}
	state.Phase = machine.JobSucceeded
	if exit.Code != 0 {
		state.Phase = machine.JobFailed
	}
	state.ExitCode, state.Step, state.Message, state.Finished = exit.Code, exit.Step, exit.Message, exit.Finished
	return state, nil
}

// redact removes secrets, as they are and as base64. Short ones are left: they
// would blacken words that tell nothing of them.
func redact(text string, secrets []machine.Secret) string {
	const shortest = 4
	for _, secret := range secrets {
		if len(secret) < shortest {
			continue
		}
		text = strings.ReplaceAll(text, string(secret), "[redacted]")
		text = strings.ReplaceAll(text, base64.StdEncoding.EncodeToString(secret), "[redacted]")
	}
	return text
}

// printable bounds a message and keeps it on one line of valid text.
func printable(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "")
	}
	return text
}

// raise makes the job's leader known to the host, and refuses to go on if the
// host has obeyed a newer one. Names are only added for an epoch, so that a
// leader that was frozen in the middle cannot turn the host back; lower ones go.
func (w *work) raise(ctx context.Context) error {
	mine := quoted(w.state.epoch(w.job.Epoch))
	seen, err := w.epochs(ctx, fmt.Sprintf("mkdir %s 2>nul& ", mine))
	if err != nil {
		return err
	}
	var lower []string
	present := false
	for _, epoch := range seen {
		switch {
		case epoch > w.job.Epoch:
			return &machine.StaleLeaderError{Epoch: w.job.Epoch, Seen: epoch}
		case epoch == w.job.Epoch:
			present = true
		default:
			lower = append(lower, "rmdir "+quoted(w.state.epoch(epoch))+" 2>nul")
		}
	}
	if !present {
		return &machine.RefusedError{JobID: w.job.ID, Reason: fmt.Sprintf("the state directory %s cannot be written", w.state.dir)}
	}
	for _, line := range joinLines(lower) {
		if _, err := w.cmd(ctx, "remove old epochs", line+"& exit 0"); err != nil {
			return err
		}
	}
	return nil
}

// fence refuses to go on if the host has obeyed a newer leader.
func (w *work) fence(ctx context.Context) error {
	seen, err := w.epochs(ctx, "")
	if err != nil {
		return err
	}
	for _, epoch := range seen {
		if epoch > w.job.Epoch {
			return &machine.StaleLeaderError{Epoch: w.job.Epoch, Seen: epoch}
		}
	}
	return nil
}

// epochs lists the leaders that the host knows, after a command.
func (w *work) epochs(ctx context.Context, before string) ([]int64, error) {
	result, err := w.cmd(ctx, "read the epoch", before+"dir /b "+quoted(w.state.epochs())+" 2>nul& exit 0")
	if err != nil {
		return nil, err
	}
	var seen []int64
	for name := range strings.Lines(string(result.Stdout)) {
		name = strings.TrimSpace(name)
		if epoch, err := strconv.ParseInt(name, 10, 64); err == nil && len(name) == epochDigits {
			seen = append(seen, epoch)
		}
	}
	return seen, nil
}
