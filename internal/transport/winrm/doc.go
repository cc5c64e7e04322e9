// Package winrm is a WS-Management client for Windows hosts: CIM queries and
// methods, and commands in a remote shell.
//
// It owns the connections (at most two a host, each authenticated once and used
// by one request at a time, because NTLM and Kerberos authenticate a TCP
// connection and not a request), the remote shells and their recycling, and the
// messages of DSP0226, DSP0227, MS-WSMV, MS-NLMP, RFC 4120 and RFC 4121 as far as
// they are needed. A connection is protected in one of two ways:
//
//   - HTTPS: TLS 1.2 or later (1.2 where a client certificate is shown) with a
//     verified certificate. NTLM, Kerberos, a client certificate or a password
//     (Basic) say who comes; the first two are bound to the certificate.
//   - HTTP: each message is sealed with the keys that NTLMv2 (128 bits, all three
//     messages signed) or Kerberos (AES, mutual) made. Basic and Certificate are
//     not to be had here.
//
// It promises that nothing else ever carries a request; that a host which answers
// a sealed message in the clear, or cannot prove to hold the key of its Kerberos
// principal, is sent nothing more (ProtectionError); that a credential is tried
// once and, when it is refused, never again by the same Client; that no request is
// sent twice unless the host has said that it did not carry it out; that every call
// ends within a second of its context; that whatever a host sends is bounded, and
// malformed messages are errors; and that Close removes the shells that were
// opened and leaves no goroutine behind. Shells are opened under ids of the
// client's choice, so that one whose opening was not answered is removed as well.
//
// It must never decide what a failure means for a service or a file, never quote
// for an interpreter, follow a redirect, use a proxy of the environment, or read
// the machine's krb5.conf or ticket caches.
package winrm
