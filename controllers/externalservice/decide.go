package externalservice

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

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
	// cancelRepeat is how soon a job is cancelled again that still runs: the host may not have heard of it.
	cancelRepeat = 10 * time.Second
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
	unread string // why the host does not tell it
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

// differs: all that may be done is done, and something is not as declared.
type differs struct{ message string }

// stop: nothing will change until a person acts.
type stop struct{ reason, message string }

func (settled) action() {}
func (act) action()     {}
func (wait) action()    {}
func (blind) action()   {}
func (hold) action()    {}
func (report) action()  {}
func (differs) action() {}
func (stop) action()    {}

// decide says what to do. It is pure.
func decide(s situation) action {
	if waiting := s.awaitExecution(); waiting != nil {
		return waiting
	}
	switch {
	case s.plan.Unknown != "":
		return blind{message: s.plan.Unknown}
	case s.plan.Missing != "":
		return wait{reason: v1alpha1.ReasonReferenceNotFound, message: s.plan.Missing, after: missingRetry}
	case s.plan.Refused != nil:
		return stop{reason: v1alpha1.ReasonNotOurs, message: s.plan.Refused.Error()}
	case s.plan.Blocked != "":
		return stop{reason: v1alpha1.ReasonBlocked, message: s.plan.Blocked}
	case len(s.plan.Steps) == 0 && s.plan.Waiting != "":
		return wait{reason: v1alpha1.ReasonWaiting, message: s.plan.Waiting}
	case len(s.plan.Steps) == 0 && len(s.plan.Unhandled) > 0:
		return differs{message: "differs from what is declared, and there is no spec.script.apply to put it right: " + inFull(s.plan.Unhandled)}
	case len(s.plan.Steps) == 0:
		return settled{}
	}
	if stopped := s.awaitPerson(); stopped != nil {
		return stopped
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
		if fresh || s.believable(*execution) {
			return nil
		}
		look := wait{reason: v1alpha1.ReasonApplying, message: "looking at the host after the change", after: glance, observe: true}
		if ended(execution.State) && execution.State != v1alpha1.ExecutionCancelled {
			look.reason, look.message = v1alpha1.ReasonProgressingWithRetry, execution.Message
		}
		return look
	}
}

// believable: the answers came with the receipt and may be older than the end of
// the job. That nothing is left to do can be believed of a job that was to bring
// just that about and did not break off; anything else cannot.
func (s situation) believable(execution v1alpha1.Execution) bool {
	done := len(s.plan.Steps) == 0 && s.plan.Waiting == "" && s.plan.Unknown == "" && s.plan.Missing == "" && len(s.plan.Unhandled) == 0
	brokenOff := execution.State == v1alpha1.ExecutionCancelled || execution.State == v1alpha1.ExecutionUnknown
	return done && !brokenOff && (execution.Reason == becauseDelete) == s.deleting
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
	if execution.CancelRequested {
		applying.message, applying.after = "cancelling: "+applying.message, cancelRepeat
	}
	switch {
	case s.receipt.queued || s.receipt.state.Phase == machine.JobRunning:
		return applying
	case s.receipt.unread != "" && fresh:
		return blind{message: "the receipt of job " + execution.ID + " cannot be read: " + s.receipt.unread}
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

// ended tells whether an execution has come to an end without success.
func ended(state v1alpha1.ExecutionState) bool {
	return state == v1alpha1.ExecutionFailed || state == v1alpha1.ExecutionUnknown || state == v1alpha1.ExecutionCancelled
}

// awaitPerson: what was cancelled, and what may not be run twice and may have been
// run, is not done again by itself. Nothing is left to wait for when a fresh look
// at the host finds nothing to do, and then this is not asked.
func (s situation) awaitPerson() action {
	execution := s.record.Execution
	if execution == nil {
		return nil
	}
	// A job that was to be cancelled and came to its end otherwise is not repeated either.
	unwanted := execution.State == v1alpha1.ExecutionCancelled || execution.CancelRequested && ended(execution.State)
	switch {
	case doubtful(*execution) && !s.plan.Idempotent() && !s.requested && (execution.Reason == becauseDelete) == s.deleting:
		return stop{reason: v1alpha1.ReasonOutcomeUnknown, message: fmt.Sprintf(
			"%s. The host was looked at again, and there is still something to do (%s); nothing is repeated, because the script does not say spec.script.idempotent. "+
				"Look at the host; then annotate with %s to run it again, or put the component right by hand",
			execution.Message, listed(s.plan.Changes), v1alpha1.ReconcileRequestAnnotation)}
	case unwanted && !s.anew(*execution):
		return stop{reason: v1alpha1.ReasonCancelled, message: fmt.Sprintf(
			"%s; its end was asked for, so nothing more is done until the spec changes or a pass is asked for (annotate with %s)",
			execution.Message, v1alpha1.ReconcileRequestAnnotation)}
	}
	return nil
}

// doubtful: it is not known what became of it, and it must not be repeated.
func doubtful(execution v1alpha1.Execution) bool {
	return execution.State == v1alpha1.ExecutionUnknown && execution.Idempotent != nil && !*execution.Idempotent
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
	execution := v1alpha1.Execution{
		ID:          id,
		Digest:      digest,
		Attempt:     attempt,
		DesiredHash: s.goal,
		StartedAt:   recorded,
		ObservedAt:  &observed,
		State:       v1alpha1.ExecutionRequested,
		Reason:      because,
		Changes:     changesOf(s.plan.Changes),
		Steps:       stepsOf(s.plan.Names()),
		Applies:     s.plan.Applies,
	}
	if !s.plan.Idempotent() {
		execution.Idempotent = ptr.To(false)
	}
	return execution
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
