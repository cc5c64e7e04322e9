// Package transport holds what the transports below it (ssh, winrm) have in
// common for those who use them: the classes of error by which the fleet
// decides whether to try again, to wait for a person, or to look first.
//
// It promises that no error carries a credential. It must never know a shell,
// a service or a file: a transport gives an authenticated, cancellable way to
// run an interpreter (or to send a management request), and nothing else.
package transport
