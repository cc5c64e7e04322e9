package transport

import "fmt"

// HopError says at which jump host on the way something failed. Err keeps its
// class, with one exception: what a jump host shows as its identity is never the
// TrustError.Seen of anything, so that it cannot be pinned as the target's.
type HopError struct {
	Hop string // host:port
	Err error
}

func (e *HopError) Error() string { return fmt.Sprintf("jump host %s: %v", e.Hop, e.Err) }

func (e *HopError) Unwrap() error { return e.Err }
