package fleet

import (
	"errors"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// verdict is what a failed request means for its link.
type verdict struct {
	state   State
	outcome string // for metrics
	known   bool   // the error has a class of its own

	seen, fingerprint string
	unpinned          bool
}

// judge sorts errors. What has no class counts as a lost connection: it is tried again, ever less often.
func judge(err error) verdict {
	var (
		credentials *transport.CredentialsError
		trust       *transport.TrustError
		address     *AddressError
		stale       *machine.StaleLeaderError
		unreachable *transport.UnreachableError
		lost        *transport.LostError
		panicked    *defect.PanicError
	)
	v := verdict{known: true}
	switch {
	case errors.As(err, &stale):
		v.state, v.outcome = Fenced, "fenced"
	case errors.As(err, &address):
		v.state, v.outcome = AddressRefused, "address_refused"
	case errors.As(err, &trust):
		v.state, v.outcome = Untrusted, "untrusted"
		v.seen, v.fingerprint = plainKey(trust.Seen), bound(trust.Fingerprint, longestName)
		v.unpinned = trust.Reason == transport.TrustUnpinned
	case errors.As(err, &credentials):
		v.state, v.outcome = CredentialsRefused, "credentials_refused"
	case errors.As(err, &unreachable):
		v.state, v.outcome = Unreachable, "unreachable"
	case errors.As(err, &lost):
		v.state, v.outcome = Unreachable, "lost"
	case errors.As(err, &panicked):
		v.state, v.outcome = Unreachable, "defect"
	default:
		v.state, v.outcome, v.known = Unreachable, "error", false
	}
	return v
}
