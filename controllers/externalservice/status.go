package externalservice

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// verdict is what a pass says of its object as a whole.
type verdict struct {
	kind            verdictKind
	reason, message string
}

type verdictKind string

const (
	ready       verdictKind = "Ready"
	progressing verdictKind = "Progressing"
	stalled     verdictKind = "Stalled"
	unready     verdictKind = "Unready" // does not work, and may again by itself
	unknown     verdictKind = "Unknown"
	unchanged   verdictKind = "Unchanged" // nothing new is known of this generation
	kept        verdictKind = "Kept"      // as before, with another message
	gone        verdictKind = "Gone"      // the object is let go: there is nothing to write to
)

// problem spoils Ready although the host is as declared.
type problem struct{ reason, message string }

// writeConditions turns what the pass concluded into conditions.
func (p *pass) writeConditions() {
	if p.verdict.kind == gone || p.verdict.kind == "" {
		return
	}
	status := &p.object.Status
	generation := p.object.Generation
	if p.health.status != "" {
		condition.Set(&status.Conditions, generation, v1alpha1.HealthyCondition, p.health.status, p.health.reason, timeless(p.health.message))
	}
	p.summarise(p.overlay())
	status.ObservedGeneration = generation
}

// overlay lets what is wrong besides the host's state spoil a good verdict.
func (p *pass) overlay() verdict {
	v := p.verdict
	failing := p.health.status == metav1.ConditionFalse && p.expectsHealth()
	if v.kind == progressing && v.reason == v1alpha1.ReasonWaiting && failing {
		return verdict{kind: unready, reason: v1alpha1.ReasonNotHealthy, message: timeless(p.health.message)}
	}
	if v.kind == progressing && v.reason != v1alpha1.ReasonDeleting && p.keepsFailing() {
		return p.failed(v.message)
	}
	if v.kind != ready {
		return v
	}
	switch {
	case len(p.problems) > 0:
		return verdict{kind: stalled, reason: p.problems[0].reason, message: p.problems[0].message}
	case failing:
		return verdict{kind: unready, reason: v1alpha1.ReasonNotHealthy, message: timeless(p.health.message)}
	case p.health.status == metav1.ConditionUnknown && p.health.traffic == asSoFar:
		return p.awaitHealth()
	case p.health.status == metav1.ConditionUnknown && p.desired.State != v1alpha1.StateStopped:
		return verdict{kind: progressing, reason: v1alpha1.ReasonWaiting, message: p.health.message}
	}
	return v
}

// patience is how many attempts at one thing may fail before Ready becomes
// False. They go on after that, ever less often.
const patience = 3

// keepsFailing tells whether a job has failed that often, and was not repeated with success since.
func (p *pass) keepsFailing() bool {
	execution := p.object.Status.Execution
	if execution == nil {
		return false
	}
	failed := execution.Attempt
	if !ended(execution.State) {
		failed--
	}
	return failed >= patience
}

// failed keeps what the last failure was while the next attempt is under way.
func (p *pass) failed(message string) verdict {
	before := condition.Get(p.object.Status.Conditions, v1alpha1.ReadyCondition)
	if before != nil && before.Reason == v1alpha1.ReasonFailed && !ended(p.object.Status.Execution.State) {
		message = before.Message
	}
	return verdict{kind: unready, reason: v1alpha1.ReasonFailed, message: message}
}

// awaitHealth: a probe that has no results yet, as after a restart of the
// operator, does not make a service unready that was ready.
func (p *pass) awaitHealth() verdict {
	before := condition.Get(p.object.Status.Conditions, v1alpha1.ReadyCondition)
	if before != nil && before.Status == metav1.ConditionTrue && p.object.Status.ObservedGeneration == p.object.Generation {
		return verdict{kind: unchanged}
	}
	return verdict{kind: progressing, reason: v1alpha1.ReasonWaiting, message: p.health.message}
}

// summarise writes Ready, Reconciling and Stalled.
func (p *pass) summarise(v verdict) {
	list, generation := &p.object.Status.Conditions, p.object.Generation
	before := condition.Get(*list, v1alpha1.ReadyCondition)
	current := before != nil && p.object.Status.ObservedGeneration == generation
	switch {
	case v.kind == unchanged && current:
	case v.kind == kept && current:
		p.keep(*before, v.message)
	case v.kind == ready:
		condition.Ready(list, generation, v.reason, v.message)
	case v.kind == stalled:
		condition.Stalled(list, generation, v.reason, v.message)
	case v.kind == unready:
		condition.Unready(list, generation, v.reason, v.message)
	case v.kind == unknown:
		condition.Unknown(list, generation, v.reason, v.message)
	default:
		condition.Progressing(list, generation, v.reason, v.message)
	}
}

// keep says something else about the same state.
func (p *pass) keep(before metav1.Condition, message string) {
	list, generation := &p.object.Status.Conditions, p.object.Generation
	switch {
	case before.Status == metav1.ConditionTrue:
		condition.Ready(list, generation, before.Reason, message)
	case before.Status == metav1.ConditionFalse && !condition.IsTrue(*list, v1alpha1.StalledCondition):
		condition.Unready(list, generation, before.Reason, message)
	case before.Status == metav1.ConditionFalse:
		condition.Stalled(list, generation, before.Reason, message)
	case condition.IsTrue(*list, v1alpha1.ReconcilingCondition):
		condition.Progressing(list, generation, before.Reason, message)
	default:
		condition.Unknown(list, generation, before.Reason, message)
	}
}

// unreachable says that nothing can be known and nothing is changed.
func (p *pass) unreachable(reason, message string) {
	reachable := metav1.ConditionUnknown
	if reason == v1alpha1.ReasonHostUnreachable {
		reachable = metav1.ConditionFalse
	}
	list := &p.object.Status.Conditions
	message = timeless(message)
	before := condition.Get(*list, v1alpha1.HostReachableCondition)
	switch {
	case before != nil && before.Reason == reason && reason == v1alpha1.ReasonHostUnreachable:
		message = before.Message // the next attempt fails in other words; that is no news
	case before == nil || before.Reason != reason || before.Message != message:
		p.happen(corev1.EventTypeWarning, reason, "Observe", message)
	}
	condition.Set(list, p.object.Generation, v1alpha1.HostReachableCondition, reachable, reason, message)
	p.verdict = verdict{kind: unknown, reason: reason, message: message}
	p.health = health{status: metav1.ConditionUnknown, reason: reason, message: "the host cannot be asked", traffic: asSoFar}
	if expose := p.object.Spec.Expose; expose != nil && expose.OnUnreachable == "NotReady" {
		p.health.traffic = refuse
	}
}

// recovered says that the host answers.
func (p *pass) recovered() {
	list := &p.object.Status.Conditions
	if before := condition.Get(*list, v1alpha1.HostReachableCondition); before != nil && before.Status != metav1.ConditionTrue {
		p.happen(corev1.EventTypeNormal, "HostRecovered", "Observe", "Host "+p.hostKey.String()+" answers again")
	}
	condition.Set(list, p.object.Generation, v1alpha1.HostReachableCondition, metav1.ConditionTrue, v1alpha1.ReasonConnected, "")
}

// noteDrift shows what somebody changed on the host. What differs because the
// spec changed is no drift.
func (p *pass) noteDrift(s situation, decision action) {
	status := &p.object.Status
	switch decision := decision.(type) {
	case settled:
		status.Drift = nil
		condition.Set(&status.Conditions, p.object.Generation, v1alpha1.DriftedCondition, metav1.ConditionFalse, v1alpha1.ReasonInSync, "")
		return
	case act:
		if decision.execution.Reason != becauseDrift {
			status.Drift = nil
			condition.Remove(&status.Conditions, v1alpha1.DriftedCondition)
			return
		}
	case differs:
		p.drifted(s.plan.Unhandled)
		return
	case wait, blind:
		return
	}
	if s.because() != becauseDrift {
		return
	}
	p.drifted(s.plan.Changes)
}

func (p *pass) drifted(changes []service.Change) {
	status := &p.object.Status
	if len(status.Drift) == 0 {
		p.happen(corev1.EventTypeWarning, v1alpha1.ReasonDriftDetected, "Observe", "what is on the host is no longer as declared: "+strings.Join(changesOf(changes), "; "))
	}
	status.Drift = differencesOf(changes)
	condition.Set(&status.Conditions, p.object.Generation, v1alpha1.DriftedCondition, metav1.ConditionTrue, v1alpha1.ReasonDriftDetected, listed(changes))
}

// occurrence is an event that is told once the pass is recorded.
type occurrence struct{ kind, reason, action, note string }

func (p *pass) happen(kind, reason, action, note string) {
	p.happened = append(p.happened, occurrence{kind, reason, action, cut(note, 1000)})
}

func (p *pass) tell() {
	for _, o := range p.happened {
		p.Recorder.Eventf(p.object, nil, o.kind, o.reason, o.action, "%s", o.note)
	}
	p.happened = nil
}

// tellRequested tells what a job is about to change.
func (p *pass) tellRequested(execution v1alpha1.Execution, plan service.Plan) {
	p.tellNotices(plan)
	if execution.Reason == becauseRecord {
		return
	}
	p.happen(corev1.EventTypeNormal, "JobRequested", execution.Reason, "job "+execution.ID+": "+summary(execution))
}

// tellNotices tells what is adopted or left behind.
func (p *pass) tellNotices(plan service.Plan) {
	for _, notice := range plan.Notices {
		p.happen(corev1.EventTypeNormal, "Notice", "Plan", notice)
	}
}

// told tells the outcome of an execution, and has its receipt removed.
func (p *pass) told(done *v1alpha1.ExecutionRecord) {
	if done == nil {
		return
	}
	p.forget = append(p.forget, done.ID)
	message := ""
	if execution := p.object.Status.Execution; execution != nil {
		message = execution.Message
	}
	switch {
	case done.Outcome == v1alpha1.ExecutionFailed:
		p.happen(corev1.EventTypeWarning, "JobFailed", done.Reason, "job "+done.ID+": "+message)
	case done.Outcome == v1alpha1.ExecutionUnknown:
		p.happen(corev1.EventTypeWarning, v1alpha1.ReasonOutcomeUnknown, done.Reason, "job "+done.ID+": "+message)
	case done.Outcome == v1alpha1.ExecutionCancelled:
		p.happen(corev1.EventTypeNormal, "JobCancelled", done.Reason, "job "+done.ID+": "+message)
	case done.Reason != becauseRecord:
		p.happen(corev1.EventTypeNormal, "JobSucceeded", done.Reason, "job "+done.ID+": "+done.Summary)
	}
}

// clockReadings find times in what hosts print: they would turn a message that
// means the same into a new one.
var clockReadings = regexp.MustCompile(`\b(\d{4}-\d{2}-\d{2}[T ])?\d{1,2}:\d{2}:\d{2}([.,]\d+)?(Z|[+-]\d{2}:?\d{2})?|\b\d{4}-\d{2}-\d{2}\b`)

func timeless(message string) string {
	return clockReadings.ReplaceAllString(message, "…")
}
