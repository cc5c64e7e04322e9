package winrm

import (
	"fmt"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// ProtectionError says that the host did not keep the protection that was
// agreed on: it answered a sealed message in the clear or with a wrong
// signature, offered less than 128-bit NTLMv2, or could not prove to hold the
// key of its Kerberos principal. Nothing is sent to it any more by the same
// Client. It counts as a transport.TrustError: whoever answers is not, or not
// provably, the host that is meant.
type ProtectionError struct{ Err error }

func (e *ProtectionError) Error() string {
	return fmt.Sprintf("messages to the host cannot be protected: %v; nothing more is sent (somebody may stand between)", e.Err)
}

func (e *ProtectionError) Unwrap() []error {
	return []error{e.Err, &transport.TrustError{Reason: transport.TrustMismatch, Err: e.Err}}
}

// unprotected makes a ProtectionError.
func unprotected(format string, args ...any) error {
	return &ProtectionError{Err: fmt.Errorf(format, args...)}
}

// finalError is the error that ends all use of a client.
type finalError struct{ err error }

// finish remembers an error after which nothing more is to be sent. The first
// one counts.
func (c *Client) finish(err error) error {
	c.final.CompareAndSwap(nil, &finalError{err: err})
	return c.final.Load().err
}
