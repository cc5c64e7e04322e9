package machine

import "time"

// Job is a list of steps with an identity. A host begins a job at most once.
type Job struct {
	// ID matches [a-z0-9-]{1,63}; it is derived from the object, what is done, and the attempt.
	ID string
	// Epoch is the leader's: a host that has seen a higher one refuses the job.
	Epoch int64
	// Owner is for people who read the receipt, and for clearing up.
	Owner Owner
	// Steps are carried out in order; the first that fails ends the job.
	Steps []Step
	// Timeout bounds the whole job, on the host. Required.
	Timeout time.Duration
	// Secrets are values that must not appear in the receipt's output.
	Secrets []Secret
	// Blobs are staged on the host before the job is started.
	Blobs []Blob
}

// JobPhase is what became of a job.
type JobPhase string

// The phases of a job.
const (
	JobAbsent    JobPhase = "Absent"    // the host does not know the id
	JobRunning   JobPhase = "Running"   // begun, and its process is there
	JobSucceeded JobPhase = "Succeeded" // all steps done
	JobFailed    JobPhase = "Failed"    // a step failed; the ones before it are done
	JobLost      JobPhase = "Lost"      // begun, and gone without an exit receipt: outcome unknown
	JobCancelled JobPhase = "Cancelled" // ended because a leader asked for it; the steps before are done
)

// JobState is the receipt of a job. It is the answer to JobReceipt.
type JobState struct {
	Phase    JobPhase
	Epoch    int64
	BootID   string // of the boot in which it was begun
	Started  string // RFC 3339, by the host's clock
	Finished string // RFC 3339, by the host's clock; empty while it runs
	ExitCode int    // of the job; 0 when it succeeded, 124 when it ran out of time
	Step     int    // index of the step that failed, or that runs now
	Message  string // last lines of what the failing step printed: redacted, at most 2 KiB
}
