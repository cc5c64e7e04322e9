// Package fleettest holds the fakes that stand beside the fleet's port.
//
// Fleet stands in for fleet.Fleet: it records what a controller watches and
// submits, shows the views that a test sets, and fails the test for a call that
// breaks the port's contract. Use it to test what a controller decides.
//
// Host stands in for a machine: an in-memory model of files, systemd units,
// Windows services, marks and jobs that really carries steps out, so that a
// controller can be run end to end, through the real fleet, without I/O. A
// Network finds Hosts by their address and is the Connect of such a fleet. A
// Host can be told to fail in the ways that real ones do: to be silent, to lose
// a reply before or after the effect, to reboot in the middle of a job, to
// refuse a login. Its journal lists the effects, in order: a test that counts
// them sees what was done twice.
//
// It must never be imported by anything but tests.
package fleettest
