package fleet

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// HostKey names a Host.
type HostKey = types.NamespacedName

// Object names an object that uses a Host, and the kind whose controller is told of changes.
type Object struct {
	Kind string // "ExternalService"
	Key  types.NamespacedName
}

// Endpoint is all that is needed to reach a host. Two endpoints that are equal
// (Version) reach it in the same way, with the same credentials and trust.
type Endpoint struct {
	Spec        v1alpha1.HostSpec
	HostKeys    []string // spec.ssh.hostKeys, or the one pinned on first use; empty: show, do not authenticate
	CA          []byte   // PEM; empty: the system's roots
	Credentials credential.Credentials
	// Jump is the SSH server through which the host is reached, with a Jump of its own
	// if it has one; nil: the host is dialled directly. Of its Spec, address and ssh count.
	Jump *Endpoint
	// Version changes whenever the way to the host does (see Digest): a new one
	// makes a new connection. The schedule, maintenance and suspension of Spec
	// take effect without one.
	Version string
	// Refused is what an operator that ran before recorded of a refusal of this very login
	// (Login); empty: nothing. A link that is new is not connected then, as if it had been refused just now.
	Refused string
	// RequestedAt is the value of the Host's reconcile request: a new value makes one new attempt.
	// Connect is given it with the attempts that are to answer it, and an empty one with others.
	RequestedAt string
}

// Connect makes a machine of an endpoint: dial, verify the identity,
// authenticate. It returns the typed errors of internal/transport, and
// AddressError for an address that the policy refuses. The machine may
// implement Introduced.
type Connect func(ctx context.Context, endpoint Endpoint) (machine.Machine, error)

// Introduced is implemented by machines that can tell whom they are connected to.
type Introduced interface{ Peer() Peer }

// Peer is the other end of a connection, as far as the transport tells.
type Peer struct {
	Address     string // IP that the name was resolved to
	HostKey     string // that was verified: "ssh-ed25519 AAAA..."
	Fingerprint string // of the host key or certificate: "SHA256:..."
}

// State of a link.
type State string

// The states of a link.
const (
	Idle               State = "Idle"               // known, not connected: nothing asked for it yet
	Connecting         State = "Connecting"         // the first connection of this endpoint is being made
	Connected          State = "Connected"          // the latest pass was answered
	Unreachable        State = "Unreachable"        // the latest attempt failed; the next one is timed
	CredentialsRefused State = "CredentialsRefused" // stopped until the endpoint changes or a pass is requested
	Untrusted          State = "Untrusted"          // stopped likewise; Seen holds what the host showed
	AddressRefused     State = "AddressRefused"     // the address is in a range that is not allowed
	Suspended          State = "Suspended"          // spec.suspend
	Fenced             State = "Fenced"             // the host has obeyed a newer leader
)

// HostStatus is what a link knows of its host.
type HostStatus struct {
	State       State
	Version     string    // of the endpoint that State speaks of
	Since       time.Time // when State was entered
	LastSeen    time.Time // the latest answer; zero if none
	Message     string    // of the latest failure, for users
	Facts       *machine.Facts
	SeenKey     string // host key that was shown last: "ssh-ed25519 AAAA..."
	Fingerprint string
	Unpinned    bool // Untrusted because nothing is pinned, rather than changed
	Users       int  // objects that watch something here
	// Answered is the RequestedAt that the latest look was made for, whatever came of
	// it, or after which no more are made.
	Answered string
}

// Watch is what an object wants to know of a host.
type Watch struct {
	Checks   []machine.Check
	Probes   []Probe
	Interval time.Duration // of the checks
}

// Probe is a health question that the operator asks over the network. Probes
// are comparable; equal probes of one object are one.
type Probe struct {
	Scheme       string // tcp, http, https
	Address      string // IP or name; empty: the Host's address
	Port         int
	Path         string // with query; http and https
	ExpectStatus int    // 0: 200 to 399
	Interval     time.Duration
	Timeout      time.Duration
	Failures     int // in a row that make healthy unhealthy
	Successes    int // in a row that make unhealthy healthy
}

// ProbeState is the standing result of a probe. It changes only when a
// threshold is crossed, so an unchanged state costs no event.
type ProbeState struct {
	Known   bool // false before a first threshold is crossed
	Healthy bool
	Message string // of the failure that crossed the threshold
}

// View is what the fleet knows for one object.
type View struct {
	Host HostStatus
	// Address that the link connects to, resolved: an IP; empty before a connection.
	Address string
	// Complete: one pass answered all checks that are watched now. Until then
	// Answers may lack entries or hold older ones.
	Complete   bool
	ObservedAt time.Time // when the latest answered pass that included all checks was begun
	BootID     string
	Answers    map[machine.Check]machine.Answer
	Probes     map[Probe]ProbeState
	// Queued lists the ids of the object's jobs that this process has accepted and not
	// finished handing over to the host. An id leaves the list with the first pass that
	// began after the hand-over, so a receipt among Answers is then never older than it.
	Queued []string
	// JobErrors holds, by id, why a job could not be handed over (refused, lost, fenced);
	// cleared by a new Submit of that id, and by Forget.
	JobErrors map[string]string
}
