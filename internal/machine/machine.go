package machine

import (
	"context"
	"io"
	"time"
)

// Machine is one host, reached through one kept connection.
//
// Its methods may be called from several goroutines; an implementation runs
// Observe beside Start. Errors are those of internal/transport, so that the
// caller can tell refused credentials from a lost connection. After an error
// of the connection the caller closes the machine and connects again.
type Machine interface {
	Observer
	Worker
	// Close ends the connection. Running jobs go on.
	Close() error
}

// Observer learns what is on a host and changes nothing there.
type Observer interface {
	// Facts describes the host.
	Facts(ctx context.Context) (Facts, error)
	// Observe answers all checks in one round trip (POSIX) or a few pipelined
	// requests (Windows). What could not be learnt about a single check is a
	// Problem among the answers, not an error.
	Observe(ctx context.Context, checks []Check) (Observation, error)
}

// Worker changes a host, by jobs only.
type Worker interface {
	// Stage puts content on the host for a job that is about to be started, without
	// holding it in memory: its PlaceFile steps take it from there. Content that is
	// staged already, whole and with the right digest, is not sent again. What no job takes is
	// removed by the host's next job after a day. A host that answers and cannot have it is a RefusedError.
	Stage(ctx context.Context, blob Blob) error
	// Start begins a job, or returns the state of the one that the host already
	// knows by this id. It waits a moment (about two seconds), so that a short
	// job answers here; a longer one is Running and its receipt is read with a
	// JobReceipt check. A host that has seen a newer epoch answers StaleLeaderError.
	Start(ctx context.Context, job Job) (JobState, error)
	// Cancel ends a running job with everything that it started, waits a moment for its
	// end, and returns its receipt. A job that has ended keeps its receipt as it is; one that the
	// host does not know is Absent. A host that has seen a newer epoch answers StaleLeaderError.
	Cancel(ctx context.Context, id string, epoch int64) (JobState, error)
	// Forget removes the receipts of finished jobs. Unknown ids are passed over.
	Forget(ctx context.Context, ids []string) error
}

// Blob is content that is too large for a job's script.
type Blob struct {
	SHA256 string // lower-case hex; its name on the host
	Size   int64  // upper bound in bytes; the digest says whether the content is whole
	// Open begins to read the content from its start. It is called only if the host lacks it.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Facts describes a host, as far as it tells.
type Facts struct {
	Hostname     string
	OSName       string // "Debian GNU/Linux 12 (bookworm)", "Microsoft Windows Server 2022 Standard"
	OSVersion    string // "12", "10.0.20348"
	Kernel       string // "6.1.0-18-amd64"; empty on Windows
	Architecture string // as Go and Kubernetes name it: amd64, arm64
	InitSystem   string // "systemd", "windows-scm", or empty when neither
	BootID       string // changes at each boot
	CPUs         int
	MemoryBytes  int64
}

// Observation is what one pass over a host learnt.
type Observation struct {
	BootID  string
	Answers map[Check]Answer // one for each check that was asked
	Took    time.Duration
}

// RefusedError says that the host answered, and will not begin a job or have content for
// one: its state directory cannot be written, or the disk is full. The job was not begun and will not be.
type RefusedError struct {
	JobID  string // empty: it is about content
	Reason string
}

func (e *RefusedError) Error() string {
	if e.JobID == "" {
		return "stage content: " + e.Reason
	}
	return "start job " + e.JobID + ": " + e.Reason
}

// StaleLeaderError says that the host has obeyed a newer leader: this operator
// has lost its leadership without noticing and must do nothing more.
type StaleLeaderError struct {
	Epoch, Seen int64
}

func (e *StaleLeaderError) Error() string {
	return "the host has obeyed a newer leader of this operator; nothing was done"
}
