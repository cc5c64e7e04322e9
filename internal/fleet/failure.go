package fleet

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// verdict is what a failed request means for its link.
type verdict struct {
	state   State
	message string
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
		panicked    *panicError
	)
	v := verdict{message: describe(err), known: true}
	switch {
	case errors.As(err, &stale):
		v.state, v.outcome = Fenced, "fenced"
	case errors.As(err, &address):
		v.state, v.outcome, v.message = AddressRefused, "address_refused", address.Error()
	case errors.As(err, &trust):
		v.state, v.outcome = Untrusted, "untrusted"
		v.seen, v.fingerprint = trust.Seen, trust.Fingerprint
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

const longestMessage = 512

// localEnd is our side of a connection in a message of package net
// ("10.0.0.1:40022->"). Its port differs each time; a message that changes
// with each attempt would cost the API server a write for each.
var (
	localEnd  = regexp.MustCompile(`\S+->`)
	blanks    = regexp.MustCompile(`\s+`)
	forbidden = regexp.MustCompile(`[^\x20-\x7e\x{a0}-\x{10ffff}]`)
)

// describe makes a message for users of an error: stable, on one line, bounded.
func describe(err error) string {
	message := localEnd.ReplaceAllString(err.Error(), "")
	message = strings.ReplaceAll(message, context.DeadlineExceeded.Error(), "no answer in time")
	message = strings.ToValidUTF8(message, "?")
	message = forbidden.ReplaceAllString(blanks.ReplaceAllString(message, " "), "?")
	if len(message) > longestMessage {
		message = strings.ToValidUTF8(message[:longestMessage], "") + "..."
	}
	return message
}
