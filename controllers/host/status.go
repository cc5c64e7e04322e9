package host

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// writeStatus puts what the pass concluded into the object.
func (p *pass) writeStatus() {
	status := &p.object.Status
	status.Users = int32(min(len(p.users), 1<<30))
	if p.obstacle == nil && p.endpoint.Version != "" {
		status.Via = bounded(via(p.object.Spec, p.endpoint.Credentials, p.hops), 1024)
	}
	if p.link.Facts != nil {
		status.Facts = facts(*p.link.Facts)
	}
	if p.link.Fingerprint != "" {
		status.HostKeyFingerprint = bounded(p.link.Fingerprint, 256)
	}
	if asked := v1alpha1.RequestedAt(p.object.Annotations); asked != "" && (p.link.Answered == asked || !p.looks()) {
		status.LastHandledReconcileAt = bounded(asked, 256)
	}
	if p.verdict.hold {
		return
	}
	p.writeLastSeen()
	p.writeRefused()
	p.writeConditions()
}

// looks tells whether a look at the host is on its way, or waits for the Hosts that are jumped
// through. Where none can be made, the conditions answer a request for one.
func (p *pass) looks() bool {
	return p.obstacle == nil && !p.object.Spec.Suspend
}

// writeRefused notes the login that was refused, until another one is not.
func (p *pass) writeRefused() {
	if p.link.Version != p.endpoint.Version {
		return
	}
	switch p.link.State {
	case fleet.CredentialsRefused:
		p.object.Status.RefusedLogin = p.endpoint.Login()
	case fleet.Connected:
		p.object.Status.RefusedLogin = ""
	}
}

// writeLastSeen notes when the host answered last, only while it does not:
// a time that moves with each answer would cost a write for each.
func (p *pass) writeLastSeen() {
	switch {
	case p.link.State == fleet.Connected && !p.object.Spec.Suspend:
		p.object.Status.LastSeenTime = nil
	case !p.link.LastSeen.IsZero():
		seen := metav1.NewTime(p.link.LastSeen).Rfc3339Copy()
		p.object.Status.LastSeenTime = &seen
	}
}

func (p *pass) writeConditions() {
	v := p.verdict
	list, generation := &p.object.Status.Conditions, p.object.Generation
	switch v.ready.kind {
	case ready:
		condition.Ready(list, generation, v.ready.reason, v.ready.message)
	case progressing:
		condition.Progressing(list, generation, v.ready.reason, v.ready.message)
	case unknown:
		condition.Unknown(list, generation, v.ready.reason, v.ready.message)
	case stalled:
		condition.Stalled(list, generation, v.ready.reason, v.ready.message)
	case failing:
		// A host that does not answer may come back without anybody's help, so it is not stalled.
		condition.Unready(list, generation, v.ready.reason, v.ready.message)
	}
	p.write(v1alpha1.ReachableCondition, v.reachable)
	p.write(v1alpha1.CredentialsAcceptedCondition, v.credentials)
	p.write(v1alpha1.IdentityTrustedCondition, v.identity)
	p.object.Status.ObservedGeneration = generation
}

// write sets one condition. Without a finding the last one stays, if it was
// made of this generation of the spec; else nothing is known.
func (p *pass) write(conditionType string, f *finding) {
	list, generation := &p.object.Status.Conditions, p.object.Generation
	if f == nil {
		last := condition.Get(*list, conditionType)
		if last != nil && last.ObservedGeneration == generation {
			return
		}
		f = perhaps(p.verdict.ready.reason, "not known: the host has not been reached since the Host was changed")
	}
	condition.Set(list, generation, conditionType, f.status, f.reason, f.message)
}

// tell sends an event for what became different in this pass.
func (p *pass) tell() {
	if p.object.Status.HostKey != "" && p.object.Status.HostKey != p.before.Status.HostKey {
		p.event(corev1.EventTypeNormal, v1alpha1.ReasonPinned, "PinHostKey",
			"pinned the host key that was shown at the first use: "+p.object.Status.HostKeyFingerprint)
	}
	if before, after := p.before.Status.Facts, p.object.Status.Facts; before != nil && after != nil && before.BootID != after.BootID {
		p.event(corev1.EventTypeNormal, "Rebooted", "Observe", "the host was rebooted")
	}
	before := condition.Get(p.before.Status.Conditions, v1alpha1.ReadyCondition)
	after := condition.Get(p.object.Status.Conditions, v1alpha1.ReadyCondition)
	if after == nil || p.verdict.hold || before != nil && before.Status == after.Status && before.Reason == after.Reason {
		return
	}
	switch p.verdict.ready.kind {
	case failing, stalled:
		p.event(corev1.EventTypeWarning, after.Reason, "Observe", after.Message)
	case ready, unknown:
		p.event(corev1.EventTypeNormal, after.Reason, "Observe", after.Message)
	case progressing:
		if after.Reason == v1alpha1.ReasonInUse {
			p.event(corev1.EventTypeNormal, after.Reason, "Delete", after.Message)
		}
	}
}

// longestNote is what the API takes as the note of an event.
const longestNote = 1024

func (p *pass) event(eventType, reason, action, note string) {
	p.Recorder.Eventf(p.object, nil, eventType, reason, action, "%s", bounded(note, longestNote))
}

// facts in the words of the API. A host says what it likes; the API has limits.
func facts(f machine.Facts) *v1alpha1.HostFacts {
	facts := &v1alpha1.HostFacts{
		OSName: bounded(f.OSName, 256), OSVersion: bounded(f.OSVersion, 256), Kernel: bounded(f.Kernel, 256),
		Architecture: bounded(f.Architecture, 64), Hostname: bounded(f.Hostname, 256),
		InitSystem: bounded(f.InitSystem, 64), BootID: bounded(f.BootID, 128),
		CPUs: int32(min(max(f.CPUs, 0), 1<<30)),
	}
	if f.MemoryBytes > 0 {
		facts.Memory = resource.NewQuantity(f.MemoryBytes, resource.BinarySI).String()
	}
	return facts
}

// bounded cuts a text at a rune.
func bounded(text string, limit int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}
