package conformance

import (
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// System is the kind of host.
type System string

// The kinds of host.
const (
	POSIX   System = "POSIX"
	Windows System = "Windows"
)

// Host is what the suite runs against.
type Host struct {
	System System
	// Dir is where everything is made. It need not be there.
	Dir string
	// Connect makes a connection of its own, as another operator would, with its state kept in stateDir.
	Connect func(t *testing.T, stateDir string) machine.Machine
	// Remove removes a directory with all that is in it, and the one above it if that is
	// empty then. It must not use a machine: it clears up after one that fails.
	Remove func(t *testing.T, dir string)
	// Download is a file that the host can download; nil: NoDownload says why there is none.
	Download   *Download
	NoDownload string
	// LargeSize is how many bytes are staged. Default: 5 MiB.
	LargeSize int64
}

// Download is a file on an HTTP server. Below URL + ".absent" there must be nothing.
type Download struct {
	URL    string
	SHA256 string // lower-case hex
	Size   int64
}

// suite is one run against one host.
type suite struct {
	Host
	words  words
	dir    string // of this run
	first  machine.Machine
	second machine.Machine
	jobs   *jobs
}

// Run runs the suite.
func Run(t *testing.T, host Host) {
	s := newSuite(t, host)
	for _, part := range []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"Facts", testFacts},
		{"Unsupported", testUnsupported},
		{"Files", testFiles},
		{"Claims", testClaims},
		{"Jobs", testJobs},
		{"Scripts", testScripts},
		{"ScriptChecks", testScriptChecks},
		{"Staging", testStaging},
		{"Fetching", testFetching},
		{"Services", testServices},
		{"Forgetting", testForgetting},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, s) })
	}
}

func newSuite(t *testing.T, host Host) *suite {
	t.Helper()
	if host.LargeSize == 0 {
		host.LargeSize = 5 << 20
	}
	var run [4]byte
	_, _ = rand.Read(run[:]) // never fails
	s := &suite{Host: host, words: wordsOf(host.System), jobs: &jobs{run: hex.EncodeToString(run[:]), epoch: 10}}
	s.dir = s.words.join(host.Dir, s.jobs.run)
	t.Cleanup(func() { host.Remove(t, s.dir) })
	state := s.words.join(s.dir, "state")
	s.first, s.second = host.Connect(t, state), host.Connect(t, state)
	return s
}

// path is a place on the host for a test.
func (s *suite) path(names ...string) string {
	return s.words.join(append([]string{s.dir}, names...)...)
}
