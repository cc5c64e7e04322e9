package externalservice

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// Reasons for a job, in status.execution.reason.
const (
	becauseCreate = "Create"
	becauseUpdate = "Update"
	becauseDrift  = "Drift"
	becauseDelete = "Delete"
	becauseRecord = "Record" // nothing on the host changes but Isthmus' own records
)

const (
	// maxCorrections within fightWindow are made; then something on the host
	// undoes them, and correcting it for ever helps nobody.
	maxCorrections = 6
	fightWindow    = time.Hour

	firstRetry = 10 * time.Second
	lastRetry  = 10 * time.Minute

	// glance is how soon an observation that was asked for is looked at. It is a
	// net: the fleet tells only of answers that changed.
	glance = time.Second
)

// situation is everything that a decision rests on.
type situation struct {
	object   string // UID
	record   *v1alpha1.ExternalServiceStatus
	goal     string // digest of the desired state; empty when it is to be removed
	deleting bool
	plan     service.Plan
	// observedAt is the time of the observation that the plan and the receipt rest on.
	observedAt time.Time
	receipt    receipt
	policy     v1alpha1.DriftPolicy
	// maintenance says why the host must not be changed; empty: it may be.
	maintenance string
	// requested: a person asked for a pass that has not been answered.
	requested bool
	now       time.Time
}

// receipt is what is known of the job of status.execution.
type receipt struct {
	known  bool
	state  machine.JobState
	queued bool   // this process is handing it over
	err    string // why it could not be handed over
}

// action is what a pass does about its object on the host; the types below are all there are.
type action interface{ action() }

// settled: the host is as declared.
type settled struct{}

// act: carry out the plan as this execution.
type act struct {
	execution   v1alpha1.Execution
	corrections []metav1.Time
}

// wait: something is under way or has to pass; nothing is done until then.
type wait struct {
	reason  string
	message string
	after   time.Duration // at most; zero: an event of the fleet ends it
	observe bool          // the host is to be looked at now
}

// blind: part of the host cannot be looked at.
type blind struct{ message string }

// hold: there is something to do that may not be done now.
type hold struct {
	message string
	because string
}

// report: there is drift, and the user wants to hear of it only.
type report struct{ message string }

// stop: nothing will change until a person acts.
type stop struct{ reason, message string }

func (settled) action() {}
func (act) action()     {}
func (wait) action()    {}
func (blind) action()   {}
func (hold) action()    {}
func (report) action()  {}
func (stop) action()    {}

// decide says what to do. It is pure.
func decide(s situation) action {
	if waiting := s.awaitExecution(); waiting != nil {
		return waiting
	}
	switch {
	case s.plan.Unknown != "":
		return blind{message: s.plan.Unknown}
	case s.plan.Refused != nil:
		return stop{reason: v1alpha1.ReasonNotOurs, message: s.plan.Refused.Error()}
	case s.plan.Blocked != "":
		return stop{reason: v1alpha1.ReasonBlocked, message: s.plan.Blocked}
	case len(s.plan.Steps) == 0 && s.plan.Waiting != "":
		return wait{reason: v1alpha1.ReasonWaiting, message: s.plan.Waiting}
	case len(s.plan.Steps) == 0:
		return settled{}
	}
	if held := s.awaitRetry(); held != nil {
		return held
	}
	return s.carryOut()
}

// awaitExecution waits for the job that was asked for, and for a look at the
// host after it; nil: there is none to wait for.
func (s situation) awaitExecution() action {
	execution := s.record.Execution
	if execution == nil {
		return nil
	}
	fresh := s.fresh(*execution)
	switch execution.State {
	case v1alpha1.ExecutionRequested, v1alpha1.ExecutionRunning:
		return s.awaitReceipt(*execution, fresh)
	default:
		// The answers came with the receipt and may be older than the end of the
		// job. That nothing is left to do can be believed, anything else cannot.
		if fresh || len(s.plan.Steps) == 0 && s.plan.Waiting == "" && s.plan.Unknown == "" {
			return nil
		}
		look := wait{reason: v1alpha1.ReasonApplying, message: "looking at the host after the change", after: glance, observe: true}
		if ended(execution.State) {
			look.reason, look.message = v1alpha1.ReasonProgressingWithRetry, execution.Message
		}
		return look
	}
}

// fresh tells whether the host was looked at since the execution's state was
// recorded. A record from the future was written by a leader whose clock was ahead;
// all that this process has seen is later than that.
func (s situation) fresh(execution v1alpha1.Execution) bool {
	recorded := execution.ObservedAt
	return recorded == nil || s.observedAt.After(recorded.Time) || recorded.After(s.now)
}

func (s situation) awaitReceipt(execution v1alpha1.Execution, fresh bool) action {
	applying := wait{reason: v1alpha1.ReasonApplying, message: summary(execution)}
	switch {
	case s.receipt.queued || s.receipt.state.Phase == machine.JobRunning:
		return applying
	case !s.receipt.known || !fresh:
		applying.after, applying.observe = glance, true
		return applying
	case s.receipt.err != "":
		applying.reason = v1alpha1.ReasonProgressingWithRetry
		applying.message = "the host did not take the job: " + s.receipt.err
		applying.after = s.handOverRetry(execution)
		if applying.after > 0 {
			return applying
		}
	}
	return nil // the host never heard of it: plan anew
}

// handOverRetry doubles the time since the job was recorded, from ten seconds to ten minutes.
func (s situation) handOverRetry(execution v1alpha1.Execution) time.Duration {
	if s.requested || execution.DesiredHash != s.goal || execution.RetryAt == nil {
		return 0
	}
	return max(execution.RetryAt.Sub(s.now), 0)
}

// awaitRetry lets the back-off of a failed execution pass.
func (s situation) awaitRetry() action {
	execution := s.record.Execution
	if execution == nil || execution.RetryAt == nil || !ended(execution.State) || s.anew(*execution) {
		return nil
	}
	left := execution.RetryAt.Sub(s.now)
	if left <= 0 {
		return nil
	}
	return wait{reason: v1alpha1.ReasonProgressingWithRetry, message: execution.Message, after: left}
}

func ended(state v1alpha1.ExecutionState) bool {
	return state == v1alpha1.ExecutionFailed || state == v1alpha1.ExecutionUnknown
}

// anew: what was tried is no longer what is wanted, or a person wants it tried now.
func (s situation) anew(execution v1alpha1.Execution) bool {
	return s.requested || execution.DesiredHash != s.goal || (execution.Reason == becauseDelete) != s.deleting
}

// carryOut decides whether the plan may be carried out now, and as what.
func (s situation) carryOut() action {
	because := s.because()
	if s.maintenance != "" {
		return hold{because: because, message: fmt.Sprintf("%s; not done until it ends: %s", s.maintenance, listed(s.plan.Changes))}
	}
	corrections := s.corrections(because)
	if because == becauseDrift {
		if s.policy == v1alpha1.DriftReport {
			return report{message: "differs from what is declared, and spec.driftPolicy is Report: " + listed(s.plan.Changes)}
		}
		if len(corrections) > maxCorrections {
			return stop{reason: v1alpha1.ReasonFighting, message: fmt.Sprintf(
				"something on the host undid the correction %d times within an hour (%s): find it, then change the spec or annotate with %s",
				len(corrections), listed(s.plan.Changes), v1alpha1.ReconcileRequestAnnotation)}
		}
		if s.attempt() == 1 {
			corrections = append(slices.Clone(corrections), metav1.NewTime(s.now))
		}
	}
	return act{execution: s.execution(because), corrections: corrections}
}

func (s situation) because() string {
	switch {
	case s.deleting:
		return becauseDelete
	case s.record.LastAppliedHash == "":
		return becauseCreate
	case s.record.LastAppliedHash != s.goal:
		return becauseUpdate
	case len(s.plan.Changes) > 0:
		return becauseDrift
	default:
		return becauseRecord
	}
}

// corrections that still count. Once there are too many they stay, whatever
// time passes, until the spec changes or a person asks for a pass.
func (s situation) corrections(because string) []metav1.Time {
	if s.requested || because == becauseCreate || because == becauseUpdate {
		return nil
	}
	if len(s.record.Corrections) > maxCorrections {
		return s.record.Corrections
	}
	return slices.DeleteFunc(slices.Clone(s.record.Corrections), func(at metav1.Time) bool {
		return s.now.Sub(at.Time) > fightWindow
	})
}

func (s situation) execution(because string) v1alpha1.Execution {
	digest := service.DigestSteps(s.plan.Steps)
	attempt := s.attempt()
	id := jobID(s.object, digest, s.record.Executions, attempt)
	recorded := metav1.NewTime(s.now)
	if before := s.record.Execution; before != nil && before.ID == id {
		recorded = before.StartedAt // the time to hand it over goes on, and with it the back-off
	}
	observed := metav1.NewMicroTime(s.observedAt)
	return v1alpha1.Execution{
		ID:          id,
		Digest:      digest,
		Attempt:     attempt,
		DesiredHash: s.goal,
		StartedAt:   recorded,
		ObservedAt:  &observed,
		State:       v1alpha1.ExecutionRequested,
		Reason:      because,
		Changes:     changesOf(s.plan.Changes),
	}
}

// attempt goes on only after a failure of the same thing. A job that the host
// never heard of keeps its number, so that it keeps its id.
func (s situation) attempt() int32 {
	execution := s.record.Execution
	switch {
	case execution == nil || execution.State == v1alpha1.ExecutionSucceeded || s.anew(*execution):
		return 1
	case ended(execution.State):
		return execution.Attempt + 1
	default:
		return execution.Attempt
	}
}

// jobID is "x" and 40 hex digits, 41 of the 63 characters that an id may have.
func jobID(object, digest string, executions int64, attempt int32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%d|%d", object, digest, executions, attempt))
	return "x" + hex.EncodeToString(sum[:])[:40]
}

// receive takes the outcome of the running execution over into the record, and
// tells it: nil if there is no news.
func receive(s situation) *v1alpha1.ExecutionRecord {
	execution := s.record.Execution
	if execution == nil || ended(execution.State) || execution.State == v1alpha1.ExecutionSucceeded || !s.receipt.known {
		return nil
	}
	switch s.receipt.state.Phase {
	case machine.JobSucceeded:
		execution.State, execution.Message, execution.RetryAt = v1alpha1.ExecutionSucceeded, "", nil
		if execution.Reason != becauseDelete {
			s.record.LastAppliedHash = execution.DesiredHash
		}
	case machine.JobFailed:
		execution.State = v1alpha1.ExecutionFailed
		execution.Message = failure(s.receipt.state)
		execution.RetryAt = at(s.now.Add(backoff(execution.Attempt)))
	case machine.JobLost:
		execution.State = v1alpha1.ExecutionUnknown
		execution.Message = "the job began on the host and ended without a receipt (a reboot, or its process was killed); the host was looked at again"
		execution.RetryAt = at(s.now)
		if execution.Attempt > 1 {
			execution.RetryAt = at(s.now.Add(backoff(execution.Attempt - 1)))
		}
	default:
		s.receiveNothing(execution)
		return nil
	}
	return s.remember(execution)
}

// receiveNothing notes what there is to say of a job without an outcome.
func (s situation) receiveNothing(execution *v1alpha1.Execution) {
	switch {
	case s.receipt.state.Phase == machine.JobRunning:
		execution.State, execution.Message, execution.RetryAt = v1alpha1.ExecutionRunning, "", nil
	case s.receipt.err != "" && !s.receipt.queued && execution.Message != s.receipt.err:
		waited := s.now.Sub(execution.StartedAt.Time)
		execution.Message = s.receipt.err
		execution.RetryAt = at(s.now.Add(min(max(waited, firstRetry), lastRetry)))
	}
}

func (s situation) remember(execution *v1alpha1.Execution) *v1alpha1.ExecutionRecord {
	const kept = 5
	observed := metav1.NewMicroTime(s.observedAt)
	execution.ObservedAt = &observed
	s.record.Executions++
	done := v1alpha1.ExecutionRecord{
		ID:         execution.ID,
		Reason:     execution.Reason,
		Outcome:    execution.State,
		FinishedAt: metav1.NewTime(s.now),
		Summary:    cut(summary(*execution), 512),
	}
	s.record.History = append([]v1alpha1.ExecutionRecord{done}, s.record.History...)
	s.record.History = s.record.History[:min(len(s.record.History), kept)]
	return &done
}

// failure says at which step a job failed, and why.
func failure(state machine.JobState) string {
	if state.ExitCode == 124 {
		return cut(fmt.Sprintf("step %d ran out of time (spec.timeout): %s", state.Step+1, state.Message), 4096)
	}
	return cut(fmt.Sprintf("step %d failed with exit code %d: %s", state.Step+1, state.ExitCode, state.Message), 4096)
}

// backoff after the n-th attempt: 10 s, 20 s, ... 10 min.
func backoff(attempt int32) time.Duration {
	shift := min(max(attempt-1, 0), 10)
	return min(firstRetry<<shift, lastRetry)
}

func at(t time.Time) *metav1.Time {
	stamp := metav1.NewTime(t)
	return &stamp
}
