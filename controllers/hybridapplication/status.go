package hybridapplication

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// maxRowMessage is the bound of a component's message in the API.
const maxRowMessage = 1024

// The types of events.
const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

func (p *pass) conditions() *[]metav1.Condition { return &p.app.Status.Conditions }

// suspended: nothing is done but deletion.
func (p *pass) suspended() {
	condition.Unknown(p.conditions(), p.app.Generation, v1alpha1.ReasonSuspended, "spec.suspend is set: nothing is looked at or changed")
	p.app.Status.ObservedGeneration = p.app.Generation
}

// rejected: the graph cannot be carried out, and a person has to edit it.
func (p *pass) rejected(why *graph.Rejection) {
	condition.Set(p.conditions(), p.app.Generation, v1alpha1.GraphAcceptedCondition, metav1.ConditionFalse, why.Reason(), why.Error())
	message := why.Error()
	if len(p.app.Status.Inventory) > 0 {
		message += " (what was applied before stays as it is)"
	}
	condition.Stalled(p.conditions(), p.app.Generation, why.Reason(), message)
	p.app.Status.ObservedGeneration = p.app.Generation
}

// announce is the status while work is under way, for the write-ahead record.
func (p *pass) announce() {
	p.accepted()
	condition.Progressing(p.conditions(), p.app.Generation, v1alpha1.ReasonComponentsNotReady, "components are being applied")
}

func (p *pass) accepted() {
	message := fmt.Sprintf("%d components form a graph", len(p.graph.Nodes))
	if len(p.graph.Unchecked) > 0 {
		message += "; components of kinds that the cluster does not know could not be checked"
	}
	condition.Set(p.conditions(), p.app.Generation, v1alpha1.GraphAcceptedCondition, metav1.ConditionTrue, v1alpha1.ReasonAccepted, message)
	p.app.Status.ObservedGeneration = p.app.Generation
}

// retrying: an error that trying again may cure ended the pass.
func (p *pass) retrying(err error) {
	condition.Progressing(p.conditions(), p.app.Generation, v1alpha1.ReasonProgressingWithRetry, err.Error())
}

// deleting: what is left, and what to do about it if it cannot be removed.
func (p *pass) deleting() {
	p.summarized = true
	p.app.Status.ObservedGeneration = p.app.Generation
	left := strings.Join(namesOf(p.entries()), ", ")
	if objects.IsRefused(p.pruneError) {
		condition.Stalled(p.conditions(), p.app.Generation, reasonFor(p.pruneError), fmt.Sprintf(
			"cannot delete: %s; left: %s; grant the permission, or name another spec.serviceAccountName, or remove the finalizer %s to leave the objects behind",
			p.pruneError, left, v1alpha1.Finalizer))
		return
	}
	message := "left: " + left
	if p.pruneError != nil {
		message += "; " + p.pruneError.Error()
	}
	condition.Progressing(p.conditions(), p.app.Generation, v1alpha1.ReasonDeleting, message)
}

// summarize sets the rows, the outputs and the summary of a pass that went through the graph.
func (p *pass) summarize() {
	p.summarized = true
	p.accepted()
	p.addRows()
	p.addOutputs()
	generation := p.app.Generation
	failed, unknown, unready := p.inState(stateFailed), p.inState(stateUnknown), p.inState(stateWaiting, stateApplied, stateDeleting)
	switch err := p.refused(); {
	case err != nil:
		condition.Stalled(p.conditions(), generation, reasonFor(err), err.Error())
	case len(failed) > 0:
		condition.Stalled(p.conditions(), generation, v1alpha1.ReasonComponentFailed, strings.Join(failed, "; "))
	case p.transient != nil || p.pruneError != nil:
		condition.Progressing(p.conditions(), generation, v1alpha1.ReasonProgressingWithRetry, errors.Join(p.transient, p.pruneError).Error())
	case len(unknown) > 0:
		condition.Unknown(p.conditions(), generation, v1alpha1.ReasonComponentUnknown, strings.Join(unknown, "; "))
	case len(unready) > 0:
		condition.Progressing(p.conditions(), generation, v1alpha1.ReasonComponentsNotReady, strings.Join(unready, "; "))
	case len(p.pruning) > 0:
		condition.Progressing(p.conditions(), generation, v1alpha1.ReasonPruning, "removing "+strings.Join(p.pruning, ", "))
	default:
		condition.Ready(p.conditions(), generation, v1alpha1.ReasonSucceeded, allReady(len(p.graph.Nodes)))
	}
}

func allReady(components int) string {
	if components == 1 {
		return "1 component is ready"
	}
	return fmt.Sprintf("%d components are ready", components)
}

// reasonFor a refusal.
func reasonFor(err error) string {
	if objects.IsForbidden(err) {
		return v1alpha1.ReasonForbidden
	}
	return v1alpha1.ReasonApplyFailed
}

// inState describes the components in any of these states, in their order.
func (p *pass) inState(states ...string) []string {
	var found []string
	for _, node := range p.nodes() {
		c := p.components[node.Name]
		if !slices.Contains(states, c.state) {
			continue
		}
		if c.message == "" {
			found = append(found, node.Name+" is not ready")
			continue
		}
		found = append(found, node.Name+": "+c.message)
	}
	return found
}

// addRows writes a row for each component; publish adds since when.
func (p *pass) addRows() {
	ready := 0
	p.rows = []v1alpha1.ComponentStatus{}
	for _, node := range p.nodes() {
		c := p.components[node.Name]
		if c.state == stateReady {
			ready++
		}
		p.rows = append(p.rows, v1alpha1.ComponentStatus{
			Name: node.Name, Kind: node.Object.Kind, Object: node.Object.Name,
			State: c.state, Message: cut(p.withPolling(c)), BlockedBy: c.blockedBy,
		})
	}
	p.app.Status.ReadyComponents = fmt.Sprintf("%d/%d", ready, len(p.rows))
}

// withPolling says why a change of this object is seen late.
func (p *pass) withPolling(c *component) string {
	if !p.unwatched[c.node.Object.GroupVersionKind] {
		return c.message
	}
	note := fmt.Sprintf("polled, because %s cannot watch %s", p.as, c.node.Object.Kind)
	if c.message == "" {
		return note
	}
	return c.message + "; " + note
}

func cut(message string) string {
	message = strings.ToValidUTF8(message, "\uFFFD")
	if runes := []rune(message); len(runes) > maxRowMessage {
		return string(runes[:maxRowMessage-1]) + "…"
	}
	return message
}

// addOutputs keeps the last value of an output that cannot be known now.
func (p *pass) addOutputs() {
	known, missing, err := p.graph.Outputs(p.values)
	if err != nil {
		p.retry(err)
		return
	}
	for _, name := range missing {
		if value, had := p.before.Outputs[name]; had {
			known[name] = value
		}
	}
	if len(known) == 0 {
		known = nil
	}
	if !maps.Equal(known, p.app.Status.Outputs) {
		p.app.Status.Outputs = known
	}
}

// publish puts the rows into the status. A row keeps its time while its state stays.
func (p *pass) publish(now time.Time) {
	if p.rows == nil {
		return
	}
	since := map[string]v1alpha1.ComponentStatus{}
	for _, row := range p.before.Components {
		since[row.Name] = row
	}
	for i := range p.rows {
		if row, had := since[p.rows[i].Name]; had && row.State == p.rows[i].State {
			p.rows[i].Since = row.Since
		} else {
			p.rows[i].Since = metav1.NewTime(now.Truncate(time.Second))
		}
	}
	p.app.Status.Components = p.rows
}

// happen remembers something that happened to an object, for an event.
func (p *pass) happen(related *unstructured.Unstructured, kind, reason, action, note string) {
	p.happened = append(p.happened, happening{kind: kind, reason: reason, action: action, note: note, related: related})
}

// tell sends what happened, and what changed in the summary: one event for each
// change, none for a pass.
func (r *Reconciler) tell(p *pass) {
	before, after := condition.Get(p.before.Conditions, v1alpha1.ReadyCondition), condition.Get(p.app.Status.Conditions, v1alpha1.ReadyCondition)
	if after != nil && (before == nil || before.Status != after.Status || before.Reason != after.Reason) {
		switch after.Status {
		case metav1.ConditionTrue:
			p.happen(nil, normal, after.Reason, "Reconcile", after.Message)
		case metav1.ConditionFalse:
			p.happen(nil, warning, after.Reason, "Reconcile", after.Message)
		}
	}
	r.send(p)
}

// send empties the list of what happened.
func (r *Reconciler) send(p *pass) {
	for _, h := range p.happened {
		if h.related == nil {
			r.Recorder.Eventf(p.app, nil, h.kind, h.reason, h.action, "%s", h.note)
			continue
		}
		r.Recorder.Eventf(p.app, h.related, h.kind, h.reason, h.action, "%s", h.note)
	}
	p.happened = nil
}
