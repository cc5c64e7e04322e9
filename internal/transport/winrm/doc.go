// Package winrm is a WS-Management client for Windows hosts: CIM queries and
// methods, and commands in a remote shell, over HTTPS.
//
// It owns the connections (at most two a host, each authenticated once and used
// by one request at a time, because NTLM authenticates a TCP connection and not a
// request), the remote shells and their recycling, and the messages of DSP0226,
// DSP0227, MS-WSMV and MS-NLMP as far as they are needed.
//
// It promises that nothing but TLS 1.2 or later with a verified certificate ever
// carries a request; that a credential is tried once and, when it is refused,
// never again by the same Client; that no request is sent twice unless the host
// has said that it did not carry it out; that every call ends within a second of
// its context; that whatever a host sends is bounded; and that Close removes the
// shells that were opened and leaves no goroutine behind.
//
// It must never decide what a failure means for a service or a file, never quote
// for an interpreter, follow a redirect, or use a proxy of the environment.
package winrm
