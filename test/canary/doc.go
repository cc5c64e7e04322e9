// Package canary looks for secrets where they must not be. It plants one that
// nobody else has in every place that takes a secret (credentials of both
// transports, contents and environments from Secrets), has a real operator
// carry them through creation, change, failure, refusal and deletion on a real
// Linux host and the Windows host at the highest log level, and looks for any
// form of any of them (package redaction) in the operator's log, its metrics,
// all objects and events, the arguments and environments of all processes while
// it all happens, the hosts' journals, and the hosts' disks outside of the files
// that were to hold them.
//
// It owns its tests and their bed. At the end it plants a leak in each of these
// places: a place in which that is not found was not looked at.
//
// It must never print what it found: a test's log is one more place where a
// secret must not be. It sees processes every few milliseconds; one that lives
// shorter may escape it, so that the golden files of the machines say what
// stands in command lines.
package canary
