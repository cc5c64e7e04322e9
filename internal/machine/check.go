package machine

import (
	"strings"
	"time"
)

// Check is a read-only question about a host. Checks are comparable: the same
// question asked for two objects is asked once. The types below are all there are.
type Check interface{ check() }

// Answer is the state that a check found, or a Problem.
type Answer interface{ answer() }

// Problem says why a check could not be answered. It is never a statement
// about the thing itself: unknown is not absent.
type Problem struct {
	Reason  string // CamelCase: AccessDenied, NotSupported, TooLarge, Failed
	Message string // for users, without secrets
}

// File asks for the content digest and the attributes of a path.
type File struct{ Path string }

// FileKind is what a path names, without following symbolic links.
type FileKind string

// The kinds of file.
const (
	FileAbsent    FileKind = "Absent"
	FileRegular   FileKind = "File"
	FileDirectory FileKind = "Directory"
	FileSymlink   FileKind = "Symlink"
	FileOther     FileKind = "Other"
)

// FileState is the answer to File. Digest, size and attributes are set for
// regular files only; mode, owner and group on POSIX only.
type FileState struct {
	Kind   FileKind
	SHA256 string // lower-case hex
	Size   int64
	Mode   uint32 // permission, set-id and sticky bits, as in 0o4755
	Owner  string // name, or number where it has none
	Group  string
}

// Unit asks for the state of a systemd unit.
type Unit struct{ Name string }

// UnitState is the answer to Unit, in systemd's own words (systemctl show).
type UnitState struct {
	Load       string // LoadState: loaded, not-found, masked, ...
	Active     string // ActiveState: active, activating, inactive, failed, ...
	Sub        string // SubState: running, dead, auto-restart, ...
	Enabled    string // UnitFileState: enabled, disabled, static, ...; empty when there is no file
	Result     string // Result: success, exit-code, signal, ...
	Fragment   string // FragmentPath: the file that defines the unit
	NeedReload bool   // NeedDaemonReload
	MainPID    int
	Instance   string // InvocationID: one start of the unit; empty when it never ran
	Since      string // RFC 3339, when the unit entered its active state; empty when it is not active
}

// WindowsService asks for the state of a service of the Windows service control manager.
type WindowsService struct{ Name string }

// WindowsServiceState is the answer to WindowsService, in the words of Win32_Service.
type WindowsServiceState struct {
	Exists      bool
	State       string // Running, Stopped, Start Pending, Stop Pending, Paused, ...
	StartMode   string // Automatic, AutomaticDelayed, Manual, Disabled
	DisplayName string
	Description string
	BinaryPath  string // PathName, raw with its quotes
	Account     string // StartName
	ProcessID   int
	ExitCode    uint32
	Instance    string // process id and creation time: one start of the service; empty when it does not run
	Since       string // RFC 3339, when the process was created
}

// Mark asks for what Isthmus itself has written down on the host about a subject.
type Mark struct{ Subject Subject }

// MarkState is the answer to Mark; zero when nothing is written down.
type MarkState struct {
	Exists  bool
	Owner   Owner
	Adopted bool // the thing was there before Isthmus
	// Started is the hash that Instance of the service was started with.
	Started, Instance string
	// Pending is the hash of a start that was begun when Before was the running
	// instance (empty: none). Written before the start, cleared after it: if the
	// running instance is no longer Before, that start has happened.
	Pending, Before string
}

// JobReceipt asks what became of a job.
type JobReceipt struct{ ID string }

// Script asks a user's read-only script. It is run as often as the host is
// looked at, ended with all that it started when its time is over, and says by
// its exit code how things are.
type Script struct {
	// Interpreter is the program that reads the script on its standard input, with
	// arguments: "/bin/sh". Empty: the machine's own (/bin/sh, or cmd.exe on Windows).
	Interpreter string
	Text        Confidential
	// Environment as EncodeEnvironment makes it. It never shows in an argument or a process list.
	Environment Confidential
	Timeout     time.Duration // required
}

// ScriptState is the answer to Script. That a script could not be run, or ran
// out of time, is a Problem.
type ScriptState struct {
	ExitCode int
	// Output is the end of what it printed to its standard output, at most 4 KiB, redacted
	// of the values of its environment.
	Output string
}

// Confidential is text that is compared and never printed: formatting it in any
// way gives "[redacted]".
type Confidential string

// String implements fmt.Stringer.
func (Confidential) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (Confidential) GoString() string { return "[redacted]" }

// MarshalJSON implements json.Marshaler.
func (Confidential) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Variable of an environment.
type Variable struct {
	Name  string // [A-Za-z_][A-Za-z0-9_]*
	Value Secret // without NUL
}

// EncodeEnvironment makes one comparable value of an environment: name=value, each ended by NUL, in the given order.
func EncodeEnvironment(variables []Variable) Confidential {
	var text strings.Builder
	for _, v := range variables {
		text.WriteString(v.Name + "=" + string(v.Value) + "\x00")
	}
	return Confidential(text.String())
}

// DecodeEnvironment is the inverse of EncodeEnvironment.
func DecodeEnvironment(encoded Confidential) []Variable {
	var variables []Variable
	for entry := range strings.SplitSeq(string(encoded), "\x00") {
		if name, value, found := strings.Cut(entry, "="); found {
			variables = append(variables, Variable{Name: name, Value: Secret(value)})
		}
	}
	return variables
}

func (File) check()           {}
func (Unit) check()           {}
func (WindowsService) check() {}
func (Mark) check()           {}
func (JobReceipt) check()     {}
func (Script) check()         {}

func (Problem) answer()             {}
func (FileState) answer()           {}
func (UnitState) answer()           {}
func (WindowsServiceState) answer() {}
func (MarkState) answer()           {}
func (JobState) answer()            {}
func (ScriptState) answer()         {}
