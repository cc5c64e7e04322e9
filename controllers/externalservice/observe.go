package externalservice

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

const (
	// missingRetry is how soon a missing reference is looked for again when nothing tells of it.
	missingRetry = 30 * time.Second
	// connectGrace is how long a host may be without a first connection of this
	// process before that is held against the objects on it: a restarted operator
	// must not turn every condition to Unknown and back.
	connectGrace = time.Minute

	defaultInterval = time.Minute
	defaultTimeout  = 5 * time.Minute
)

// hostKeyOf names the Host of an object: the recorded one, or the one of the spec.
func hostKeyOf(object *v1alpha1.ExternalService) fleet.HostKey {
	if namespace, name, ok := strings.Cut(object.Status.Host, "/"); ok {
		return fleet.HostKey{Namespace: namespace, Name: name}
	}
	return object.HostKey()
}

// findHost reads the Host and asks it for permission.
func (p *pass) findHost(ctx context.Context) (next, error) {
	host := &v1alpha1.Host{}
	err := p.Client.Get(ctx, p.hostKey, host)
	if apierrors.IsNotFound(err) {
		p.Fleet.Unwatch(p.self)
		p.verdict = verdict{kind: progressing, reason: v1alpha1.ReasonHostNotFound, message: fmt.Sprintf("waiting for Host %s to exist", p.hostKey)}
		return finished, nil
	}
	if err != nil {
		return finished, fmt.Errorf("read Host %s: %w", p.hostKey, err)
	}
	p.host = host
	allowed, err := p.allowed(ctx)
	if err != nil {
		return finished, err
	}
	if !allowed {
		p.Fleet.Unwatch(p.self)
		p.verdict = verdict{kind: stalled, reason: v1alpha1.ReasonHostNotAllowed, message: fmt.Sprintf(
			"Host %s does not allow namespace %s: ask its owner to extend spec.allowedNamespaces", p.hostKey, p.object.Namespace)}
		return finished, nil
	}
	return onwards, nil
}

// allowed tells whether the Host may be used from the object's namespace.
func (p *pass) allowed(ctx context.Context) (bool, error) {
	if p.host.Namespace == p.object.Namespace {
		return true, nil
	}
	rule := p.host.Spec.AllowedNamespaces
	switch rule.From {
	case "All":
		return true, nil
	case "Selector":
		selector, err := metav1.LabelSelectorAsSelector(rule.Selector)
		if err != nil {
			return false, nil //nolint:nilerr // A selector that cannot be read allows nobody.
		}
		namespace := &metav1.PartialObjectMetadata{}
		namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := p.Client.Get(ctx, types.NamespacedName{Name: p.object.Namespace}, namespace); err != nil {
			return false, fmt.Errorf("read Namespace %s: %w", p.object.Namespace, err)
		}
		return selector.Matches(labels.Set(namespace.Labels)), nil
	default:
		return false, nil
	}
}

// compile makes the desired state of the spec, its contents and the host's operating system.
func (p *pass) compile(ctx context.Context) (next, error) {
	source, err := p.source(ctx)
	var missing *missingError
	if errors.As(err, &missing) {
		p.verdict = verdict{kind: progressing, reason: v1alpha1.ReasonReferenceNotFound, message: missing.Error()}
		p.again(missingRetry)
		return finished, nil
	}
	if err != nil {
		return finished, err
	}
	desired, err := service.Compile(source)
	if err != nil {
		p.verdict = verdict{kind: stalled, reason: v1alpha1.ReasonInvalid, message: err.Error()}
		p.answerRequest()
		return finished, nil
	}
	p.desired = desired
	if p.confidential {
		p.again(p.interval())
	}
	return onwards, nil
}

// observe says what is to be known and reads what is known. It ends the pass
// when the host does not answer.
func (p *pass) observe(ctx context.Context) (next, error) {
	p.look(service.Checks(p.desired, p.object.Status.Inventory), p.probes())
	p.sweep()
	if p.connection() == finished {
		if p.health.traffic == refuse {
			_, err := p.expose(ctx)
			return finished, err
		}
		return finished, nil
	}
	if !p.view.Complete {
		p.keepWaiting("the first answer of the host is awaited")
		return finished, nil
	}
	if p.object.Status.Observed = service.Observe(p.desired, p.view.Answers); p.object.Status.Observed != nil {
		p.object.Status.Observed.Message = cut(timeless(p.object.Status.Observed.Message), 1024)
	}
	p.health = p.assess()
	return onwards, nil
}

// look watches checks and the receipt of the running execution, and takes the view.
func (p *pass) look(checks []machine.Check, probes []fleet.Probe) {
	p.watched = fleet.Watch{Checks: checks, Probes: probes, Interval: p.interval()}
	p.watch()
	if p.requested != "" {
		p.Fleet.Observe(p.hostKey, p.self)
	}
	p.view = p.Fleet.View(p.hostKey, p.self)
}

// watch tells the fleet what to look at, with the receipt of the running execution.
func (p *pass) watch() {
	watched := p.watched
	if execution := p.object.Status.Execution; execution != nil && inFlight(execution.State) {
		watched.Checks = append(slices.Clone(watched.Checks), machine.JobReceipt{ID: execution.ID})
	}
	p.Fleet.Watch(p.hostKey, p.self, watched)
}

func inFlight(state v1alpha1.ExecutionState) bool {
	return state == v1alpha1.ExecutionRequested || state == v1alpha1.ExecutionRunning
}

// sweep has the receipts of finished executions removed, once in a process:
// the operator may have ended between the record and the request.
func (p *pass) sweep() {
	if p.view.Host.State != fleet.Connected || p.memory.recall(p.self.Key, p.object.UID, func(*recollection) {}).swept {
		return
	}
	p.swept = true
	for _, done := range p.object.Status.History {
		p.forget = append(p.forget, done.ID)
	}
}

// connection says what a link that is not connected means.
func (p *pass) connection() next {
	host := p.view.Host
	if host.State == fleet.Connected {
		p.memory.recall(p.self.Key, p.object.UID, func(it *recollection) { it.unconnected = time.Time{} })
		p.recovered()
		return onwards
	}
	if left := p.connecting(); left > 0 {
		p.keepWaiting(fmt.Sprintf("waiting for the connection to Host %s", p.hostKey))
		p.again(left)
		return finished
	}
	p.answerRequest()
	switch host.State {
	case fleet.Idle, fleet.Connecting:
		p.unreachable(v1alpha1.ReasonHostNotReady, fmt.Sprintf("Host %s is not connected: its own conditions say why", p.hostKey))
	case fleet.Unreachable:
		p.unreachable(v1alpha1.ReasonHostUnreachable, fmt.Sprintf("Host %s does not answer, and nothing is changed until it does: %s", p.hostKey, host.Message))
	case fleet.Suspended:
		p.unreachable(v1alpha1.ReasonHostNotReady, fmt.Sprintf("Host %s is suspended (its spec.suspend is set): nothing is looked at or changed", p.hostKey))
	default:
		p.unreachable(v1alpha1.ReasonHostNotReady, fmt.Sprintf("Host %s cannot be used (%s): %s", p.hostKey, host.State, host.Message))
	}
	return finished
}

// connecting tells how much longer a link is given that has no connection yet. A
// request waits as long: it would be answered before it is known what there is to do.
func (p *pass) connecting() time.Duration {
	if state := p.view.Host.State; state != fleet.Idle && state != fleet.Connecting {
		return 0
	}
	it := p.memory.recall(p.self.Key, p.object.UID, func(it *recollection) {
		if it.unconnected.IsZero() {
			it.unconnected = p.now
		}
	})
	return it.unconnected.Add(connectGrace).Sub(p.now)
}

// keepWaiting leaves the conditions as they are if they speak of this spec.
func (p *pass) keepWaiting(message string) {
	p.verdict = verdict{kind: unchanged, reason: v1alpha1.ReasonConnecting, message: message}
	p.again(10 * time.Second)
}

func (p *pass) interval() time.Duration {
	if interval := p.object.Spec.Interval; interval != nil && interval.Duration > 0 {
		return interval.Duration
	}
	return defaultInterval
}

func (p *pass) timeout() time.Duration {
	if timeout := p.object.Spec.Timeout; timeout != nil && timeout.Duration > 0 {
		return timeout.Duration
	}
	return defaultTimeout
}

// jitter spreads passes that many objects ask for at once: up to a tenth later.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}
