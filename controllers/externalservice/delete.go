package externalservice

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// delete removes from the host what was recorded, by the deletion policy, and
// lets the object go. It reads nothing of the spec but that policy.
func (p *pass) delete(ctx context.Context) error {
	if !controllerutil.ContainsFinalizer(p.object, v1alpha1.Finalizer) {
		p.verdict.kind = gone
		return nil
	}
	if _, err := p.heedCancel(ctx); err != nil {
		return err
	}
	if len(p.object.Status.Inventory) == 0 {
		return p.letGo(ctx)
	}
	if p.object.Annotations[v1alpha1.AbandonAnnotation] == "true" {
		return p.leaveBehind(ctx, "the annotation "+v1alpha1.AbandonAnnotation+" says so")
	}
	host := &v1alpha1.Host{}
	err := p.Client.Get(ctx, p.hostKey, host)
	if apierrors.IsNotFound(err) {
		return p.leaveBehind(ctx, fmt.Sprintf("Host %s does not exist any longer", p.hostKey))
	}
	if err != nil {
		return fmt.Errorf("read Host %s: %w", p.hostKey, err)
	}
	p.host = host
	return p.removeFromHost(ctx)
}

// removeFromHost makes the host forget the object, one job at a time.
func (p *pass) removeFromHost(ctx context.Context) error {
	p.verdict = verdict{kind: progressing, reason: v1alpha1.ReasonDeleting}
	if execution := p.object.Status.Execution; execution != nil && execution.Reason != becauseDelete {
		p.requestCancel("the object is being deleted")
	}
	p.look(service.RemovalChecks(p.object.Status.Inventory), nil)
	if p.view.Host.State != fleet.Connected {
		p.awaitHost()
		return nil
	}
	p.recovered()
	p.sweep()
	if !p.view.Complete {
		p.verdict.message = "the first answer of the host is awaited"
		p.again(missingRetry)
		return nil
	}
	values, err := p.removalValues(ctx, p.object.Status.Inventory)
	if err != nil {
		return err
	}
	plan := service.NewRemoval(p.owner, p.object.Spec.DeletionPolicy, service.Observation{
		Answers:   p.view.Answers,
		Inventory: p.object.Status.Inventory,
		Values:    values,
	})
	s := p.situation(plan)
	s.deleting = true
	p.told(receive(s))
	decision := decide(s)
	if _, done := decision.(settled); done {
		if p.object.Status.Execution == nil { // otherwise they were told with the job
			p.tellNotices(plan)
		}
		return p.letGo(ctx)
	}
	if err := p.pursue(ctx, decision, plan); err != nil {
		return err
	}
	p.sayDeleting()
	return nil
}

// sayDeleting: whatever is awaited, the object is being deleted; what stops
// that comes with the way out.
func (p *pass) sayDeleting() {
	if p.verdict.kind == stalled || p.verdict.kind == unknown || p.verdict.reason == v1alpha1.ReasonReferenceNotFound {
		p.verdict.message += "; " + p.wayOut()
	}
	if p.verdict.kind != stalled {
		p.verdict.kind = progressing
		p.verdict.reason = v1alpha1.ReasonDeleting
	}
}

// awaitHost waits for a host that does not answer, and says how to go on without it.
func (p *pass) awaitHost() {
	if p.connecting() <= 0 {
		p.answerRequest()
	}
	p.verdict.message = fmt.Sprintf("Host %s does not answer (%s), and %s; %s",
		p.hostKey, p.view.Host.State, p.remaining("is still there"), p.wayOut())
	p.again(connectGrace)
}

func (p *pass) wayOut() string {
	return fmt.Sprintf(`to leave it behind, annotate with %s: "true"`, v1alpha1.AbandonAnnotation)
}

// remaining names what is recorded.
func (p *pass) remaining(what string) string {
	const most = 10
	inventory := p.object.Status.Inventory
	var names []string
	for _, thing := range inventory[:min(len(inventory), most)] {
		names = append(names, service.Describe(thing))
	}
	if more := len(inventory) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ") + " " + what
}

// leaveBehind lets the object go without touching the host, and says what stays there.
func (p *pass) leaveBehind(ctx context.Context, why string) error {
	p.happen(corev1.EventTypeWarning, "LeftBehind", becauseDelete, fmt.Sprintf("%s on Host %s: %s", p.remaining("is left behind"), p.hostKey, why))
	return p.letGo(ctx)
}

// letGo ends the object. The Service and EndpointSlice follow by their owner reference.
func (p *pass) letGo(ctx context.Context) error {
	p.verdict.kind = gone
	if err := p.patcher.RemoveFinalizer(ctx, p.object, v1alpha1.Finalizer); err != nil {
		return err
	}
	p.Fleet.Unwatch(p.self)
	p.memory.drop(p.self.Key)
	return nil
}
