// Package sshd runs OpenSSH servers on high ports of loopback: real servers for
// tests of the SSH transport, on machines without root and, a hundred at a time,
// for benchmarks.
//
// It owns, for each server, a directory with its configuration, host key (with a
// certificate, if asked for) and authorized keys, and the process; as root also a control group, so that what
// a session has left running ends with the server.
//
// It promises that a server answers when Start returns and that nothing on the
// machine is changed: no user is created, and a forced shell is seen by the
// server and its sessions only. As root OpenSSH insists on the empty directory
// /run/sshd, which stays when it is missing and has to be made.
//
// Sessions run as the user that runs the tests, with that user's rights. It must
// never listen on anything but loopback.
package sshd
