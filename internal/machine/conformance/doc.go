// Package conformance is the one suite that every pair of a transport and a
// machine has to pass: what internal/machine promises, asked of a real host.
//
// It owns the tests. Hosts are given to it: those of the test bed, and any real
// one by flags (docs/testing.md). It looks at effects with the machine's own
// checks and scripts, so that it needs no other way into a host.
//
// It promises that all it makes on a host lies below one directory, which is
// removed, and is the Windows service IsthmusConformance. It must never know a
// transport, or touch anything else on a host: people point it at real ones.
package conformance
