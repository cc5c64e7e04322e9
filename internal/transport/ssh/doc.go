// Package ssh is one SSH connection to one host: it dials, directly or through
// jump hosts, verifies the host, authenticates, and runs commands in sessions of their own.
//
// It owns the connections: those to hosts belong to who dialled them, those to
// jump hosts to a Pool, which shares one among all hosts behind it, bounds the dials through it,
// replaces it when it dies, and closes it when nobody has used it for a minute.
//
// Of identity it promises that no authentication byte is sent to a host that
// shows neither a pinned key nor a certificate, valid now, that a trusted authority has signed for its
// name; that SHA-1 and RSA keys under 3072 bits count for nothing; that every
// hop is verified and authenticated as itself; and that the key of a jump host
// is never reported as the key of what is behind it.
//
// Of credentials it promises that each is tried once, the certificate before
// its bare key and the password by one method only; that one that cannot be
// valid is found before anything is sent; that one that a jump host has refused
// is not tried again for each host behind it; that a connection which ends
// without an answer is never taken for a refusal; and that no error carries a secret.
//
// Of time and memory it promises that every call ends with its context, a
// second later at most; that what a host sends is bounded in memory; that a
// host that stops answering is noticed by keepalives; and that nothing is left
// running here. The one exception is a channel that a living jump host has been asked to open and
// has not answered for: its goroutine ends with the answer.
//
// Of commands it promises that the input of one whose request has ended, or
// whose connection is closed, ends on the host, and that its output has no reader
// then. SSH can do no more: OpenSSH sends no signal for us where the login is
// root's, and ends no process that neither reads nor writes. A command that
// must not outlive its request watches its input: Request.Stdin stays open for as long as the request lives.
//
// Errors are those of internal/transport; one that happened on the way is a
// HopError. What time cures (a certificate of the future, a server that hears
// nobody for a while) is an UnreachableError, which is tried again; what a
// person must cure is not.
//
// It must never know what a command means, retry one, or trust a key by itself.
package ssh
