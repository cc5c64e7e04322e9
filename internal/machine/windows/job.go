package windows

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/redaction"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// exitFailed, exitTimedOut and exitCancelled are exit codes of a job; a script has its own.
	exitFailed    = 1
	exitTimedOut  = 124
	exitCancelled = 130
	// receiptTime bounds the writing of the exit receipt of a job whose own time is over.
	receiptTime = 15 * time.Second
	// maxMessage is less than what a line has room for when every byte is escaped.
	maxMessage = 1000
)

var (
	errJobTime   = errors.New("the job ran out of time")
	errCancelled = errors.New("the job was cancelled")
)

// outcome is what Start answers.
type outcome struct {
	state machine.JobState
	err   error
}

// Start implements machine.Machine. It returns when the job is over, or after a
// while: a moment if the job runs a script or downloads a file, and longer if it
// waits for services; the job then goes on without the caller. When the connection is lost in the middle, or ctx ends
// while Start waits, it returns a LostError and leaves the receipts as they are.
func (m *Machine) Start(ctx context.Context, job machine.Job) (machine.JobState, error) {
	if err := checkJob(job); err != nil {
		return machine.JobState{}, err
	}
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	flight := m.flight(job.ID)
	if !jobsInFlight.enter(flight, end) {
		end(nil)
		return machine.JobState{Phase: machine.JobRunning, Epoch: job.Epoch}, nil
	}
	detach := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	defer detach()
	begun, over := make(chan machine.JobState, 1), make(chan outcome, 1)
	m.background.Go(func() {
		state, err := defect.Guard(func() (machine.JobState, error) { return m.perform(own, job, begun) })
		m.noteDefect(err)
		end(nil)
		jobsInFlight.leave(flight)
		over <- outcome{state, err}
	})
	var now machine.JobState
	var patience <-chan time.Time
	for {
		select {
		case o := <-over:
			return o.state, o.err
		case now = <-begun:
			now.Phase = machine.JobRunning
			patience = m.patience(job)
		case <-patience:
			return now, nil
		}
	}
}

// patience ends the wait of Start for a job. A host that takes long over a job is
// not one that does not answer.
func (m *Machine) patience(job machine.Job) <-chan time.Time {
	for _, step := range job.Steps {
		switch step.(type) {
		case machine.RunScript, machine.FetchFile:
			return time.After(m.moment)
		}
	}
	return time.After(m.patient)
}

// perform does a job from its beginning, which it tells of, to its receipt.
func (m *Machine) perform(ctx context.Context, job machine.Job, started chan<- machine.JobState) (machine.JobState, error) {
	w := &work{Machine: m, job: job}
	state, begun, err := w.begin(ctx)
	if err == nil && begun {
		started <- state
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
	if err := w.secure(ctx); err != nil {
		return state, false, refusal(w.job.ID, err)
	}
	if err := w.raise(ctx); err != nil {
		return state, false, err
	}
	host, err := w.clock(ctx)
	if err != nil {
		return state, false, fmt.Errorf("begin job %s: %w", w.job.ID, err)
	}
	known, err := w.known(ctx, host)
	if err != nil || known.Phase != machine.JobAbsent {
		return known, false, err
	}
	if err := w.removeStale(ctx, host); err != nil {
		return state, false, err
	}
	line, err := w.beginLine(host)
	if err != nil {
		return state, false, err
	}
	_, err = w.cmd(ctx, "begin job "+w.job.ID, line)
	var refused *CommandError
	if !errors.As(err, &refused) {
		return machine.JobState{Epoch: w.job.Epoch, BootID: host.boot, Started: host.now}, err == nil, err
	}
	if refused.Code != exitExists {
		return state, false, &machine.RefusedError{JobID: w.job.ID,
			Reason: fmt.Sprintf("the state directory %s cannot be written, or the disk is full: %s", w.state.dir, refused.Text)}
	}
	// Somebody began it since, or died before its receipt was written.
	known, err = w.known(ctx, host)
	if known.Phase == machine.JobAbsent {
		known.Phase = machine.JobLost
	}
	return known, false, err
}

func (w *work) beginLine(host clock) (string, error) {
	begun := startedFile{ID: w.job.ID, Epoch: w.job.Epoch, Boot: host.boot, Started: host.now, Owner: ownerFile(w.job.Owner)}
	for i, step := range w.job.Steps {
		if _, script := step.(machine.RunScript); script {
			begun.Scripts = append(begun.Scripts, i)
			begun.Steps, begun.Seconds = len(w.job.Steps), int64(w.job.Timeout/time.Second)
		}
	}
	receipt, err := cmdJSON(begun)
	if err != nil {
		return "", err
	}
	dir := quoted(w.state.job(w.job.ID))
	// mkdir makes the directory for one of all who ask at the same time. Whoever
	// finds it there has not begun the job. Who makes it and cannot write into it
	// takes it away again, so that the job is known not to have begun.
	return fmt.Sprintf("mkdir %[1]s 2>nul& if errorlevel 1 (if exist %[1]s (exit %[4]d) else (exit 1))"+
		" else (echo %[2]s>%[3]s& if errorlevel 1 (rmdir /s /q %[1]s& if exist %[1]s (exit %[4]d) else (exit 1)) else (exit 0))",
		dir, receipt, quoted(w.state.started(w.job.ID)), exitExists), nil
}

// known reads what the host knows of the job now. A script whose time is over
// and whose operator is gone is ended here: this leader has been obeyed.
func (w *work) known(ctx context.Context, host clock) (machine.JobState, error) {
	r, err := w.receipts(ctx, w.job.ID)
	if err != nil || r.Phase != machine.JobLost {
		return r.JobState, err
	}
	state, err := w.orphan(ctx, r, host)
	if err != nil || state.Phase != machine.JobRunning || !r.begun.overdue(host) {
		return state, err
	}
	return w.endOrphan(ctx, r, host, exitFile{Code: exitTimedOut, Message: errJobTime.Error() + ", and nobody was there to end it in time"})
}

// receipts reads the receipts of a job as they are now.
func (m *Machine) receipts(ctx context.Context, id string) (receipts, error) {
	started, exit := m.state.started(id), m.state.exit(id)
	contents, err := m.typeFiles(ctx, []string{started, exit})
	if err != nil {
		return receipts{}, fmt.Errorf("read the receipts of job %s: %w", id, err)
	}
	return parseReceipt(contents[started], contents[exit])
}

// carryOut does the steps of a begun job and writes its exit receipt.
func (w *work) carryOut(ctx context.Context, state machine.JobState) (machine.JobState, error) {
	timed, cancel := context.WithTimeoutCause(ctx, w.job.Timeout, errJobTime)
	defer cancel()
	step, err := w.steps(timed)
	if err == nil {
		return w.finish(ctx, state, exitFile{Message: w.printed})
	}
	exit := exitFile{Step: step, Code: exitFailed, Message: err.Error()}
	// Only the job's own time, and a leader, make an end of a request that broke off.
	cause := context.Cause(timed)
	var stale *machine.StaleLeaderError
	var script *ScriptError
	var lost *lostScriptError
	switch {
	case errors.As(err, &lost):
		state.Phase, state.Step, state.Message = machine.JobLost, step, printable(redact(err.Error(), w.job.Secrets))
		return state, nil
	case errors.As(err, &stale):
		return state, err
	case errors.Is(cause, errCancelled):
		exit.Code, exit.Message, exit.Cancelled = exitCancelled, errCancelled.Error(), true
	case errors.Is(cause, errJobTime):
		exit.Code, exit.Message = exitTimedOut, fmt.Sprintf("%v after %v: %v", errJobTime, w.job.Timeout, err)
	case broken(err):
		return state, err
	case errors.As(err, &script):
		exit.Code = int(script.Code)
	}
	exit.Message = printable(redact(exit.Message, w.job.Secrets))
	return w.finish(context.WithoutCancel(ctx), state, exit)
}

// steps carries out the steps; it gives the index of the one that failed.
func (w *work) steps(ctx context.Context) (int, error) {
	for i, step := range w.job.Steps {
		jobsInFlight.at(w.flight(w.job.ID), i)
		w.at = i
		err := context.Cause(ctx)
		if err == nil {
			err = w.fence(ctx)
		}
		if err == nil {
			err = w.do(ctx, step)
		}
		if err != nil {
			return i, err
		}
	}
	return 0, nil
}

// finish writes the exit receipt. A job has one: where somebody else has ended
// it meanwhile, that one stays.
func (w *work) finish(ctx context.Context, state machine.JobState, exit exitFile) (machine.JobState, error) {
	ctx, cancel := context.WithTimeout(ctx, receiptTime)
	defer cancel()
	if err := w.removeAside(ctx); err != nil {
		return state, err
	}
	host, err := w.clock(ctx)
	if err != nil {
		return state, fmt.Errorf("finish job %s: %w", w.job.ID, err)
	}
	exit.Finished = host.now
	return w.end(ctx, state, exit)
}

// end writes an exit receipt where there is none, and gives the one that is there.
func (w *work) end(ctx context.Context, state machine.JobState, exit exitFile) (machine.JobState, error) {
	written, err := w.create(ctx, w.state.exit(w.job.ID), exit)
	if err != nil {
		return state, fmt.Errorf("finish job %s: %w", w.job.ID, err)
	}
	if written {
		return exit.over(state), nil
	}
	r, err := w.receipts(ctx, w.job.ID)
	return r.JobState, err
}

// redactor hides secrets in all their forms.
func redactor(secrets []machine.Secret) *redaction.Redactor {
	all := make([][]byte, len(secrets))
	for i, secret := range secrets {
		all[i] = secret
	}
	return redaction.New(all...)
}

// redact removes secrets. It comes before anything is cut off.
func redact(text string, secrets []machine.Secret) string { return redactor(secrets).String(text) }

// printable bounds a message and makes valid text of it. Lines stay, as they do
// on a POSIX host: the receipt escapes them.
func printable(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	text = strings.ToValidUTF8(strings.TrimSpace(strings.Join(lines, "\n")), "?")
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
