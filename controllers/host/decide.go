package host

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// situation is everything that a decision rests on.
type situation struct {
	spec   v1alpha1.HostSpec
	secret string // "namespace/name"
	// obstacle says why there is no endpoint; nil: there is one.
	obstacle *obstacle
	// waiting says for what the endpoint is not used yet; empty: it is.
	waiting string
	// leaving is the Host that is jumped through although it is being deleted; empty: none.
	leaving string
	link    fleet.HostStatus
	version string // of the endpoint that is configured
	pinned  bool   // the key was trusted at the first meeting
	// known tells whether the conditions speak of this generation of the spec.
	known bool
	// lastSeen is when the host answered last, as far as anybody remembers; zero: never.
	lastSeen time.Time
	now      time.Time
}

// verdict is what a pass says about its Host.
type verdict struct {
	// hold leaves all conditions as they are.
	hold        bool
	ready       summary
	reachable   *finding // nil: as it was, if it was said of this generation
	credentials *finding
	identity    *finding
	again       time.Duration // until the next pass; 0: when there is news
}

// summary becomes the condition Ready and its companions.
type summary struct {
	kind    kind
	reason  string
	message string
}

type kind string

const (
	ready       kind = "Ready"
	progressing kind = "Progressing"
	unknown     kind = "Unknown"
	failing     kind = "Failing" // Ready=False, and it may pass by itself
	stalled     kind = "Stalled"
)

// finding becomes one of the other conditions.
type finding struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

func yes(reason, message string) *finding {
	return &finding{metav1.ConditionTrue, reason, message}
}

func no(reason, message string) *finding {
	return &finding{metav1.ConditionFalse, reason, message}
}

func perhaps(reason, message string) *finding {
	return &finding{metav1.ConditionUnknown, reason, message}
}

func (p *pass) situation() situation {
	s := situation{
		spec:     p.object.Spec,
		secret:   p.object.Namespace + "/" + p.object.Spec.CredentialsRef.Name,
		obstacle: p.obstacle,
		waiting:  p.waiting,
		link:     p.link,
		version:  p.endpoint.Version,
		pinned:   p.object.Status.HostKey != "",
		known:    p.object.Status.ObservedGeneration == p.object.Generation,
		now:      p.now,
	}
	if p.object.DeletionTimestamp.IsZero() {
		s.leaving = leaving(p.hops)
	}
	s.lastSeen = p.link.LastSeen
	if p.object.Status.LastSeenTime != nil && s.lastSeen.IsZero() {
		s.lastSeen = p.object.Status.LastSeenTime.Time
	}
	return s
}

// decide says what the state of a link means for its Host.
func decide(s situation) verdict {
	v := judge(s)
	if v.again == 0 {
		v.again = resyncInterval
	}
	return v
}

func judge(s situation) verdict {
	switch {
	case s.obstacle != nil:
		return obstructed(s)
	case s.spec.Suspend:
		return suspended()
	case s.link.Version != s.version:
		return connecting(s)
	}
	switch s.link.State {
	case fleet.Connected:
		return connected(s)
	case fleet.Unreachable:
		return unreachable(s)
	case fleet.CredentialsRefused:
		return credentialsRefused(s)
	case fleet.Untrusted:
		return untrusted(s)
	case fleet.AddressRefused:
		return addressRefused(s)
	case fleet.Fenced:
		return fenced()
	}
	return connecting(s)
}

// obstructed: somebody has to correct something before the host is contacted.
// Only a Secret is read again and again for that; a changed Host makes itself known.
func obstructed(s situation) verdict {
	o := s.obstacle
	nobody := perhaps(o.reason, "the host is not contacted")
	v := verdict{
		ready:     summary{stalled, o.reason, o.message},
		reachable: nobody, credentials: nobody, identity: nobody,
	}
	switch o.reason {
	case v1alpha1.ReasonCredentialsInvalid:
		v.ready.message += "; correct it and it is used at once"
		v.credentials = no(o.reason, o.message)
		v.again = stoppedInterval
	case v1alpha1.ReasonInvalidSpec:
		v.identity = no(o.reason, o.message)
	}
	return v
}

func suspended() verdict {
	const message = "spec.suspend is set: the host is not contacted"
	paused := perhaps(v1alpha1.ReasonSuspended, message)
	return verdict{ready: summary{unknown, v1alpha1.ReasonSuspended, message}, reachable: paused, credentials: paused, identity: paused}
}

// connecting holds on to what was said of this generation: an operator that
// starts anew connects to all hosts, and that is no news to anybody.
func connecting(s situation) verdict {
	if s.known {
		return verdict{hold: true}
	}
	message := "connecting to " + s.spec.Address
	if s.waiting != "" {
		message = s.waiting
	}
	nothing := perhaps(v1alpha1.ReasonConnecting, message)
	return verdict{
		ready:     summary{progressing, v1alpha1.ReasonConnecting, message},
		reachable: nothing, credentials: nothing, identity: nothing,
	}
}

func connected(s situation) verdict {
	message := "the host answers"
	if s.spec.Maintenance.Enabled {
		message += "; it is in maintenance and is not changed"
		if s.spec.Maintenance.Reason != "" {
			message += ": " + s.spec.Maintenance.Reason
		}
	}
	if s.leaving != "" {
		message += fmt.Sprintf("; Host %s, which is jumped through, is being deleted, and waits for that to end: set spec.ssh.jump to another Host, or remove it", s.leaving)
	}
	return verdict{
		ready:       summary{ready, v1alpha1.ReasonConnected, message},
		reachable:   yes(v1alpha1.ReasonConnected, "the host answers"),
		credentials: yes(v1alpha1.ReasonConnected, "the host let us in"),
		identity:    proven(s),
	}
}

// proven says by what the host showed that it is the one that is meant.
func proven(s situation) *finding {
	if s.spec.SSH == nil {
		return yes(v1alpha1.ReasonVerified, listenerProof(s.spec.WinRM))
	}
	if s.pinned {
		return yes(v1alpha1.ReasonPinned, "the host shows the key that was pinned into status.hostKey at the first use")
	}
	byKey, byAuthority := len(s.spec.SSH.HostKeys) > 0, len(s.spec.SSH.HostKeyAuthorities) > 0
	switch {
	case strings.Contains(s.link.SeenKey, "-cert-v01@openssh.com "), byAuthority && !byKey:
		return yes(v1alpha1.ReasonVerified, "the host shows a certificate that an authority of spec.ssh.hostKeyAuthorities signed")
	case byAuthority && !declared(s.spec.SSH.HostKeys, s.link.SeenKey):
		return yes(v1alpha1.ReasonVerified, "the host shows a key of spec.ssh.hostKeys, or a certificate that an authority of spec.ssh.hostKeyAuthorities signed")
	}
	return yes(v1alpha1.ReasonVerified, "the host shows a key of spec.ssh.hostKeys")
}

// listenerProof says what proves a listener of WinRM.
func listenerProof(winrm *v1alpha1.WinRMTransport) string {
	if winrm == nil || winrm.Scheme != v1alpha1.HTTP {
		return "the host's certificate is signed by a trusted authority"
	}
	return fmt.Sprintf("the host seals its messages with a key that only a party to the %s authentication has", winrm.Authentication)
}

// unreachable gives a host the grace period; a restart of a few seconds is not worth an alarm.
func unreachable(s situation) verdict {
	since := s.lastSeen
	if since.IsZero() {
		since = s.link.Since
	}
	message := s.link.Message
	left := since.Add(gracePeriod(s.spec)).Sub(s.now)
	if left > 0 {
		return verdict{
			ready:     summary{unknown, v1alpha1.ReasonUnreachable, message},
			reachable: perhaps(v1alpha1.ReasonUnreachable, message),
			again:     left,
		}
	}
	return verdict{
		ready:     summary{failing, v1alpha1.ReasonUnreachable, message},
		reachable: no(v1alpha1.ReasonUnreachable, message),
	}
}

func gracePeriod(spec v1alpha1.HostSpec) time.Duration {
	if spec.Probe.GracePeriod == nil {
		return 50 * time.Second
	}
	return spec.Probe.GracePeriod.Duration
}

func credentialsRefused(s situation) verdict {
	message := fmt.Sprintf("%s; one attempt was made and no more follow; correct Secret %s, which is used at once, or ask for another attempt with the annotation %s",
		s.link.Message, s.secret, v1alpha1.ReconcileRequestAnnotation)
	return verdict{
		ready:       summary{stalled, v1alpha1.ReasonCredentialsRefused, message},
		reachable:   yes(v1alpha1.ReasonConnected, "the host answers"),
		credentials: no(v1alpha1.ReasonCredentialsRefused, s.link.Message),
		identity:    proven(s),
		again:       stoppedInterval,
	}
}

func untrusted(s situation) verdict {
	reason, cure := v1alpha1.ReasonIdentityMismatch, mismatchCure(s)
	if s.link.Unpinned && (s.spec.SSH == nil || len(s.spec.SSH.HostKeyAuthorities) == 0) {
		reason = v1alpha1.ReasonIdentityUnpinned
		cure = "compare the key with the host's own, and write it into spec.ssh.hostKeys"
	}
	unsure := perhaps(reason, "whoever answers has not proved to be this host")
	return verdict{
		ready:       summary{stalled, reason, s.link.Message + "; " + cure},
		reachable:   unsure,
		credentials: perhaps(reason, "no credential was sent"),
		identity:    no(reason, s.link.Message),
		again:       stoppedInterval,
	}
}

func mismatchCure(s situation) string {
	switch {
	case s.spec.SSH == nil:
		return "check the listener's certificate, spec.winrm.caRef and spec.winrm.serverName"
	case s.pinned:
		return "if the host was reinstalled, remove status.hostKey to pin its new key, or write the key into spec.ssh.hostKeys; otherwise somebody stands between"
	case len(s.spec.SSH.HostKeyAuthorities) > 0:
		return "have the host's key signed by an authority of spec.ssh.hostKeyAuthorities for its address, add that authority, or write the key into spec.ssh.hostKeys; otherwise somebody stands between"
	}
	return "if the host was reinstalled, write its new key into spec.ssh.hostKeys; otherwise somebody stands between"
}

func addressRefused(s situation) verdict {
	message := s.link.Message + "; change spec.address"
	never := perhaps(v1alpha1.ReasonAddressRefused, "the host is not contacted")
	return verdict{
		ready:     summary{stalled, v1alpha1.ReasonAddressRefused, message},
		reachable: never, credentials: never, identity: never,
	}
}

func fenced() verdict {
	const message = "the host has obeyed a newer leader of this operator; this one does nothing there"
	other := perhaps(v1alpha1.ReasonFenced, message)
	return verdict{ready: summary{unknown, v1alpha1.ReasonFenced, message}, reachable: other}
}
