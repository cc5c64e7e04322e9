package externalservice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// overdueGrace is what a job gets beyond spec.timeout before it is cancelled
// from here. A host ends its jobs in time by itself; on Windows nobody does once
// the operator that began the job is gone. It also covers clocks that differ.
const overdueGrace = 10 * time.Minute

// heedCancel takes note of a cancel request. The job that runs is to end; a
// request without one is answered, so that it ends no later job.
func (p *pass) heedCancel(context.Context) (next, error) {
	asked := cut(p.object.Annotations[v1alpha1.CancelRequestAnnotation], 256)
	status := &p.object.Status
	if asked == "" || asked == status.LastHandledCancelAt {
		return onwards, nil
	}
	status.LastHandledCancelAt = asked
	if execution := status.Execution; execution == nil || !inFlight(execution.State) {
		p.happen(corev1.EventTypeNormal, "NothingToCancel", "Cancel", "no job is under way, so the cancel request ends none")
		return onwards, nil
	}
	p.requestCancel("the annotation " + v1alpha1.CancelRequestAnnotation + " asks for it")
	return onwards, nil
}

// requestCancel records that the job under way is to end. The host is asked for
// that once it is recorded, and again as long as the job runs.
func (p *pass) requestCancel(why string) {
	execution := p.object.Status.Execution
	if execution == nil || execution.CancelRequested || !inFlight(execution.State) {
		return
	}
	execution.CancelRequested = true
	p.happen(corev1.EventTypeNormal, "CancelRequested", "Cancel", fmt.Sprintf("job %s is to be cancelled: %s", execution.ID, why))
}

// endOverdue cancels a job that has run for far too long, by the host's clock and by
// ours: a host's clock may be wrong by hours, and a job may have waited long for its turn.
func (p *pass) endOverdue(s situation) {
	began, err := time.Parse(time.RFC3339, s.receipt.state.Started)
	execution := p.object.Status.Execution
	if err != nil || execution == nil || s.receipt.state.Phase != machine.JobRunning {
		return
	}
	if began.Before(execution.StartedAt.Time) {
		began = execution.StartedAt.Time
	}
	if left := began.Add(p.timeout() + overdueGrace).Sub(p.now); left > 0 {
		p.again(left)
		return
	}
	p.requestCancel("it has run longer than spec.timeout, and the host has not ended it")
}

// cancelJob asks for the end of the job under way, if that is recorded.
func (p *pass) cancelJob() {
	execution := p.object.Status.Execution
	if p.verdict.kind == gone || execution == nil || !execution.CancelRequested || !inFlight(execution.State) {
		return
	}
	p.Jobs.Cancel(p.hostKey, p.self, execution.ID)
}
