// Package operator is Isthmus as its users run it: the operator's own program,
// under its own role, on a real API server whose database waits for the disk, and
// objects that are written and read through that API.
//
// It owns the control plane, the operator's process, and the Hosts and
// ExternalServices of a run.
//
// It promises that a pass is timed to its end as the API and the operator's own
// metrics tell it: all objects Ready, or all hosts looked at.
package operator
