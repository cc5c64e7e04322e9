package externalservice

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

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
		// What a script applied counts once observe finds nothing left to do.
		if execution.Reason != becauseDelete && !execution.Applies {
			s.record.LastAppliedHash = execution.DesiredHash
		}
	case machine.JobFailed:
		execution.State = v1alpha1.ExecutionFailed
		execution.Message = failure(s.receipt.state, execution.Steps)
		execution.RetryAt = at(s.now.Add(backoff(execution.Attempt)))
	case machine.JobLost:
		execution.State = v1alpha1.ExecutionUnknown
		execution.Message = lost(s.receipt.state, *execution)
		execution.RetryAt = at(s.now)
		if execution.Attempt > 1 {
			execution.RetryAt = at(s.now.Add(backoff(execution.Attempt - 1)))
		}
	case machine.JobCancelled:
		s.cancelled(execution, "cancelled on the host"+during(s.receipt.state, execution.Steps)+"; the steps before are done")
	default:
		if !s.neverBegan(*execution) {
			s.receiveNothing(execution)
			return nil
		}
		s.cancelled(execution, "cancelled before the host began it; nothing was done")
	}
	return s.remember(execution)
}

func (s situation) cancelled(execution *v1alpha1.Execution, message string) {
	execution.State, execution.Message, execution.RetryAt = v1alpha1.ExecutionCancelled, cut(message, 4096), nil
}

// neverBegan: it was to be cancelled, and the host has not heard of it and will not.
func (s situation) neverBegan(execution v1alpha1.Execution) bool {
	return execution.CancelRequested && s.receipt.state.Phase == machine.JobAbsent && !s.receipt.queued && s.fresh(execution)
}

// disappoint takes back the success of a job that ran spec.script.apply, if a look
// at the host after it finds that observe still wants it run. It tells the outcome; nil: it stands.
func disappoint(s situation) *v1alpha1.ExecutionRecord {
	execution := s.record.Execution
	if execution == nil || execution.State != v1alpha1.ExecutionSucceeded || !execution.Applies ||
		s.deleting || s.plan.Differs == "" || execution.DesiredHash != s.goal || !s.fresh(*execution) {
		return nil
	}
	execution.State = v1alpha1.ExecutionFailed
	execution.Message = cut("spec.script.apply succeeded, and spec.script.observe still says "+s.plan.Differs, 4096)
	execution.RetryAt = at(s.now.Add(backoff(execution.Attempt)))
	done := v1alpha1.ExecutionRecord{ID: execution.ID, Reason: execution.Reason, Outcome: execution.State}
	for i, earlier := range s.record.History {
		if earlier.ID == execution.ID {
			s.record.History[i].Outcome = execution.State
		}
	}
	return &done
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

// failure says which step of a job failed, and why.
func failure(state machine.JobState, steps []string) string {
	name := fmt.Sprintf("step %d", state.Step+1)
	if state.Step >= 0 && state.Step < len(steps) {
		name = steps[state.Step]
	}
	if state.ExitCode == 124 {
		return cut(fmt.Sprintf("%s ran out of time (spec.timeout): %s", name, state.Message), 4096)
	}
	return cut(fmt.Sprintf("%s failed with exit code %d: %s", name, state.ExitCode, state.Message), 4096)
}

func during(state machine.JobState, steps []string) string {
	if state.Step >= 0 && state.Step < len(steps) {
		return " during: " + steps[state.Step]
	}
	return ""
}

// lost says what is known of a job that ended without a receipt.
func lost(state machine.JobState, execution v1alpha1.Execution) string {
	if execution.Idempotent == nil || *execution.Idempotent {
		return "the job began on the host and ended without a receipt (a reboot, or its process was killed); the host was looked at again"
	}
	began := ""
	if state.Started != "" {
		began += " at " + state.Started + " by its clock"
	}
	if state.BootID != "" {
		began += ", in its boot " + state.BootID
	}
	return cut(fmt.Sprintf("the job began on the host%s, and ended without a receipt (a reboot, or its process was killed): whether its script ran, and how far, is not known", began), 4096)
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
