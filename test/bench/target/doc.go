// Package target is the hosts that every side of a comparison works on: OpenSSH
// servers on loopback, and what is to be managed behind each of them.
//
// It owns the servers, a directory for each host, and the four managed things: two
// files, a component that a script looks after, and a process that is to run.
// The scripts are the same for every side.
//
// It promises that a host is as new after Wipe, and that Verify reads the state
// from the host itself, by no side's word.
//
// The hosts share one machine and one user: what they have of their own is their
// address, host key, directory and processes. It must never touch anything
// outside those directories, nor end a process that it has not found recorded there.
package target
