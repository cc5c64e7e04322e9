// Package wsman is the protocol of a Windows host's remote management service:
// WS-Management (DSP0226, DSP0227) with Microsoft's extensions (MS-WSMV) over HTTP.
//
// It owns the HTTP side (authentication by Basic, NTLM, Kerberos and client
// certificate, sealed messages, channel bindings, limits, faults), the shells
// of text-based remote commands, and the transfer and enumeration of CIM objects.
// What a command does and what objects there are comes from outside, through the
// interfaces Programs and Repository.
//
// It promises the envelopes, fault codes and HTTP status codes of Windows as far as
// they are written down in the specifications or known from recorded exchanges. What
// differs from Windows, as far as known:
//
//   - Negotiate takes NTLM messages as they are, as Windows does, but not wrapped in
//     SPNEGO; there is no CredSSP. Kerberos is accepted by MIT's library (package
//     realm), which answers as Windows does but is not Windows.
//   - Every client certificate of the given authorities is mapped to the one account.
//   - The texts of faults are those of Windows in English for the common ones only.
//   - A second command in a shell whose command still runs is refused with the code
//     170 (ERROR_BUSY); the code of Windows is not documented.
//   - Shells do not end by their idle timeout.
//
// Requests can be disturbed (Injection), and challenges be changed on their way, as
// a broken network or somebody between would. Clients that nobody here wrote prove
// the rest: see clients_test.go.
//
// It must never be reachable from outside of the test bed, and must never accept a
// request whose credentials it has not verified.
package wsman
