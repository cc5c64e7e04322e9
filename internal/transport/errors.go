package transport

import "fmt"

// CredentialsError says that the host knows us and refuses us. Trying again
// with the same credentials could lock the account: nothing is tried until
// they change or a person asks.
type CredentialsError struct {
	Method string // what was tried: "password", "publickey", "NTLM", "Basic"
	User   string
	Err    error
}

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("the host refused user %q (%s): check the Secret and the account on the host", e.User, e.Method)
}

func (e *CredentialsError) Unwrap() error { return e.Err }

// TrustError says that the host could not prove to be the one we mean. No
// credential was sent. It is final until the Host is edited.
type TrustError struct {
	Reason TrustReason
	// Seen is what the host showed: "ssh-ed25519 AAAA..." or the certificate's SHA-256.
	Seen string
	// Fingerprint of Seen, as ssh-keygen prints it: "SHA256:...".
	Fingerprint string
	// Accepted says, for people, what would have been accepted; it may be empty.
	Accepted string
	Err      error
}

// TrustReason tells a first meeting from a changed identity.
type TrustReason string

// The reasons of a TrustError.
const (
	// TrustUnpinned: nothing is known about the host's identity yet.
	TrustUnpinned TrustReason = "Unpinned"
	// TrustMismatch: the identity is not the one that is pinned or certified.
	TrustMismatch TrustReason = "Mismatch"
)

func (e *TrustError) Error() string {
	if e.Reason == TrustUnpinned {
		return fmt.Sprintf("the host shows key %s and none is pinned in the Host", e.Fingerprint)
	}
	message := fmt.Sprintf("the host's identity (%s) is not the pinned one", e.Fingerprint)
	if e.Err != nil {
		message += ": " + e.Err.Error()
	}
	if e.Accepted != "" {
		message += "; accepted is " + e.Accepted
	}
	return message + "; no credential was sent"
}

func (e *TrustError) Unwrap() error { return e.Err }

// UnreachableError says that no connection could be made; nothing was done.
type UnreachableError struct {
	Address string
	Err     error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("reach %s: %v", e.Address, e.Err) }

func (e *UnreachableError) Unwrap() error { return e.Err }

// LostError says that the connection ended, or the time ran out, during a
// request: whether the host carried it out is unknown.
type LostError struct {
	Doing string
	Err   error
}

func (e *LostError) Error() string { return fmt.Sprintf("%s: connection lost: %v", e.Doing, e.Err) }

func (e *LostError) Unwrap() error { return e.Err }
