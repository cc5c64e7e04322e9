package posix

import (
	"errors"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// validPath tells whether a path can be spoken of without doubt.
func validPath(name string) error {
	switch {
	case !strings.HasPrefix(name, "/"):
		return errors.New("the path is not absolute")
	case name == "/" || path.Clean(name) != name:
		return errors.New("the path is not in its shortest form")
	case strings.ContainsRune(name, 0):
		return errors.New("the path holds a NUL byte")
	case len(name) > 4095:
		return errors.New("the path is too long")
	}
	return nil
}

// fileReading is what the host said about one file.
type fileReading struct {
	stat   string // of stat
	digest string
	absent bool
	err    *machine.Problem
}

func (f *fileReading) line(tag, rest string) {
	switch tag {
	case "f":
		f.stat = rest
	case "h":
		if sha256Hex.MatchString(rest) {
			f.digest = rest
		}
	case "a":
		f.absent = true
	case "p":
		problem := fileProblem(rest)
		f.err = &problem
	}
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func fileProblem(text string) machine.Problem {
	reason, message, _ := strings.Cut(text, " ")
	switch reason {
	case "AccessDenied":
		return denied
	case "TooLarge":
		return machine.Problem{Reason: reason, Message: "the file is larger than " + itoa(maxHashed>>20) + " MiB"}
	default:
		return failed("the host said: " + excerpt(message))
	}
}

// fileAnswer makes an answer of what the host said, and of the digest that is
// known from an earlier pass when the host was not asked to read the file.
func (m *Machine) fileAnswer(name string, f fileReading) machine.Answer {
	switch {
	case f.err != nil:
		return *f.err
	case f.absent:
		return machine.FileState{Kind: machine.FileAbsent}
	}
	state, ok := parseStat(f.stat)
	if !ok {
		return noAnswer
	}
	if state.Kind != machine.FileRegular {
		return machine.FileState{Kind: state.Kind}
	}
	if state.SHA256 = m.files.digest(name, f.stat, f.digest); state.SHA256 == "" {
		return failed("the file changed or could not be read while it was looked at")
	}
	return state
}

// parseStat reads "%f|%d|%i|%s|%y|%z|%u|%g|%a|%U|%G".
func parseStat(line string) (machine.FileState, bool) {
	fields := strings.SplitN(line, "|", 11)
	if len(fields) != 11 {
		return machine.FileState{}, false
	}
	raw, rawErr := strconv.ParseUint(fields[0], 16, 32)
	size, sizeErr := strconv.ParseInt(fields[3], 10, 64)
	mode, modeErr := strconv.ParseUint(fields[8], 8, 32)
	if rawErr != nil || sizeErr != nil || modeErr != nil {
		return machine.FileState{}, false
	}
	return machine.FileState{
		Kind:  fileKind(raw),
		Size:  size,
		Mode:  uint32(mode),
		Owner: nameOrNumber(fields[9], fields[6]),
		Group: nameOrNumber(fields[10], fields[7]),
	}, true
}

// fileKind reads the type bits of st_mode.
func fileKind(mode uint64) machine.FileKind {
	switch mode & 0o170000 {
	case 0o100000:
		return machine.FileRegular
	case 0o040000:
		return machine.FileDirectory
	case 0o120000:
		return machine.FileSymlink
	default:
		return machine.FileOther
	}
}

func nameOrNumber(name, number string) string {
	if name == "" || name == "UNKNOWN" {
		return number
	}
	return name
}

const (
	// settleTime is how long a digest must be known to be taken for granted: a
	// second change within one tick of the file system's clock leaves no trace.
	settleTime  = 2 * time.Second
	maxRemember = 8192
)

// digestCache remembers digests by the line that stat printed for the file.
type digestCache struct {
	mu      sync.Mutex
	clock   clock.PassiveClock
	entries map[string]digestEntry
}

type digestEntry struct {
	line, digest string
	since        time.Time // when this line was seen first
	settled      bool
}

func newDigestCache(clock clock.PassiveClock) *digestCache {
	return &digestCache{clock: clock, entries: map[string]digestEntry{}}
}

// known is the line for which the host need not read the file; empty if there is none.
func (c *digestCache) known(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry := c.entries[name]; entry.settled {
		return entry.line
	}
	return ""
}

// digest returns what the host has read, or what is known for this line.
func (c *digestCache) digest(name, line, read string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, known := c.entries[name]
	if read == "" {
		if entry.line == line {
			return entry.digest
		}
		return ""
	}
	if !known && len(c.entries) >= maxRemember {
		clear(c.entries)
	}
	now := c.clock.Now()
	if entry.line != line {
		entry = digestEntry{line: line, since: now}
	}
	entry.digest = read
	entry.settled = now.Sub(entry.since) >= settleTime
	c.entries[name] = entry
	return read
}

func itoa(n int) string { return strconv.Itoa(n) }
