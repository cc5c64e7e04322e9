// Package service knows what an ExternalService means on a host. It compiles a
// spec into a desired state, says which checks tell whether a host is in that
// state, and turns the answers into differences and the steps that remove them.
// There is a driver for each kind of service (systemd, windowsservice) and one for
// components that scripts manage, beside the files that any of them may have.
//
// It promises that everything here is a pure function of its arguments; that an
// unset field is not managed, a value is enforced and an empty value removes;
// that what belongs to somebody else is refused as a whole, before anything is
// touched; that a service is restarted at most once for any number of changes,
// and only if it should run; that a script is run only if observe, or a file that
// it has to see, asks for it, and never when observe says neither yes nor no; that a state which is under way is waited for and
// not asked for again; and that removal follows what was recorded, never the spec.
//
// It must never do I/O, look at a clock, or put the content of a file into
// anything but a step and its list of secrets.
package service
