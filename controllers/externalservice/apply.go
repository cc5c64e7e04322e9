package externalservice

import (
	"context"
	"errors"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/artifact"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// proceed decides what to do about the service on its host, and does it.
func (p *pass) proceed(ctx context.Context) (next, error) {
	values, err := p.removalValues(ctx, service.Gone(p.desired, p.object.Status.Inventory))
	if err != nil {
		return finished, err
	}
	plan := service.NewPlan(p.desired, service.Observation{Answers: p.view.Answers, Inventory: p.object.Status.Inventory, Values: values})
	s := p.situation(plan)
	s.goal, s.policy = p.desired.Digest, p.object.Spec.DriftPolicy
	p.told(receive(s))
	p.told(disappoint(s))
	p.endOverdue(s)
	decision := decide(s)
	p.noteDrift(s, decision)
	return finished, p.pursue(ctx, decision, plan)
}

func (p *pass) situation(plan service.Plan) situation {
	return situation{
		object:      string(p.object.UID),
		record:      &p.object.Status,
		plan:        plan,
		observedAt:  p.view.ObservedAt.Truncate(time.Microsecond), // as status.execution.observedAt keeps it
		receipt:     p.receipt(),
		maintenance: p.maintenance(),
		requested:   p.requested != "",
		now:         p.now,
	}
}

// receipt reads what the view says of the running execution.
func (p *pass) receipt() receipt {
	execution := p.object.Status.Execution
	if execution == nil {
		return receipt{}
	}
	found := receipt{err: timeless(p.view.JobErrors[execution.ID])}
	for _, id := range p.view.Queued {
		found.queued = found.queued || id == execution.ID
	}
	switch answer := p.view.Answers[machine.JobReceipt{ID: execution.ID}].(type) {
	case machine.JobState:
		found.state, found.known = answer, true
		found.state.Message = timeless(found.state.Message)
	case machine.Problem:
		found.unread = answer.Message
	}
	return found
}

func (p *pass) maintenance() string {
	if p.host == nil || !p.host.Spec.Maintenance.Enabled {
		return ""
	}
	if reason := p.host.Spec.Maintenance.Reason; reason != "" {
		return "Maintenance of the Host (" + reason + ")"
	}
	return "Maintenance of the Host"
}

// pursue turns a decision into effects and a verdict.
func (p *pass) pursue(ctx context.Context, decision action, plan service.Plan) error {
	if !awaitsAnswer(decision) {
		p.answerRequest()
	}
	switch decision := decision.(type) {
	case settled:
		p.settle(plan)
	case differs:
		p.noteApplied(plan)
		p.verdict = verdict{kind: stalled, reason: v1alpha1.ReasonDriftDetected, message: timeless(decision.message)}
	case act:
		return p.act(ctx, decision, plan)
	case wait:
		p.await(decision)
	case blind:
		p.verdict = verdict{kind: unknown, reason: v1alpha1.ReasonObservationFailed, message: timeless(decision.message)}
	case hold:
		p.holdBack(decision)
	case report:
		p.verdict = verdict{kind: stalled, reason: v1alpha1.ReasonDriftDetected, message: decision.message}
	case stop:
		p.verdict = verdict{kind: stalled, reason: decision.reason, message: timeless(decision.message)}
	}
	return nil
}

// awaitsAnswer: a request waits until it is known what there is to do, and until that may be done.
func awaitsAnswer(decision action) bool {
	switch decision := decision.(type) {
	case wait:
		return decision.observe
	case hold:
		return true
	}
	return false
}

// settle records that the host is as declared.
func (p *pass) settle(plan service.Plan) {
	if execution := p.object.Status.Execution; execution != nil && doubtful(*execution) {
		p.happen(corev1.EventTypeNormal, "OutcomeSettled", execution.Reason, "job "+execution.ID+
			": what became of it is not known, and does not matter any longer: nothing is left to do on the host")
	}
	p.noteApplied(plan)
	p.verdict = verdict{kind: ready, reason: v1alpha1.ReasonSucceeded, message: "the host is as declared"}
	if p.desired.State == v1alpha1.StateStopped {
		p.verdict = verdict{kind: ready, reason: v1alpha1.ReasonStopped, message: "the host is as declared, and the service is stopped"}
	}
}

// noteApplied records that all is done that is to be done. A fight is over with a new
// spec and with a request, also where these found nothing to do.
func (p *pass) noteApplied(plan service.Plan) {
	status := &p.object.Status
	if p.requested != "" || status.LastAppliedHash != p.desired.Digest {
		status.Corrections = nil
	}
	status.Execution = nil
	status.Inventory = plan.Inventory
	status.Host = p.hostKey.String()
	status.LastAppliedHash = p.desired.Digest
}

func (p *pass) await(decision wait) {
	p.verdict = verdict{kind: progressing, reason: decision.reason, message: timeless(decision.message)}
	if decision.after > 0 {
		p.again(decision.after)
	}
	if decision.observe {
		p.Fleet.Observe(p.hostKey, p.self)
	}
}

func (p *pass) holdBack(decision hold) {
	p.verdict = verdict{kind: progressing, reason: v1alpha1.ReasonMaintenance, message: decision.message}
	if decision.because == becauseDrift || decision.because == becauseRecord {
		p.verdict.kind = kept
	}
}

// errUnrecorded cannot happen as long as each execution differs from the one before it.
var errUnrecorded = errors.New("the job was not recorded, so it was not begun")

// act records the job and what it will leave on the host, and then asks for it.
// The record is what makes it safe: the write fails if this pass began from an
// old read, and whoever comes after an end of this process finds the job's id.
func (p *pass) act(ctx context.Context, decision act, plan service.Plan) error {
	status := &p.object.Status
	known := status.Execution != nil && status.Execution.ID == decision.execution.ID
	status.Execution = &decision.execution
	status.Corrections = decision.corrections
	status.Inventory = plan.Inventory
	status.Host = p.hostKey.String()
	p.verdict = verdict{kind: progressing, reason: v1alpha1.ReasonApplying, message: timeless(summary(decision.execution))}
	if decision.execution.Reason == becauseDelete {
		p.verdict.reason = v1alpha1.ReasonDeleting
	}
	if !known {
		p.tellRequested(decision.execution, plan)
	}
	p.writeConditions()
	recorded, err := p.patcher.Patch(ctx, p.object)
	if err != nil {
		return err
	}
	if !recorded {
		return errUnrecorded
	}
	p.Jobs.Submit(p.hostKey, p.self, machine.Job{
		ID:      decision.execution.ID,
		Owner:   p.owner,
		Steps:   plan.Steps,
		Timeout: p.timeout(),
		Secrets: plan.Secrets,
		Blobs:   p.blobs(plan.Downloads),
	})
	p.watch() // after Submit: the receipt of a job on its way is no reason for a look of its own
	return nil
}

// blobs are opened by the link that hands the job over, if the host lacks them.
func (p *pass) blobs(downloads []service.Blob) []machine.Blob {
	var blobs []machine.Blob
	for _, d := range downloads {
		artifacts, wanted := p.Artifacts, artifact.Request{URL: d.URL, SHA256: d.SHA256, MaxSize: d.MaxSize}
		blobs = append(blobs, machine.Blob{SHA256: d.SHA256, Size: d.MaxSize, Open: func(ctx context.Context) (io.ReadCloser, error) {
			return artifacts.Open(ctx, wanted)
		}})
	}
	return blobs
}
