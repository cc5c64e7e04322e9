// Package ssh is one SSH connection to one host: it dials, verifies the host
// key, authenticates, and runs commands in sessions of their own.
//
// It promises that no authentication byte is sent to a host whose key is not
// pinned; that each credential is tried once, and the password by one method
// only; that every call ends with its context, a second later at most; that
// what a host sends is bounded in memory; that a host that stops answering is
// noticed by keepalives; and that no error carries a password or a passphrase.
// Errors are those of internal/transport.
//
// It must never know what a command means, retry one, or trust a key by itself.
package ssh
