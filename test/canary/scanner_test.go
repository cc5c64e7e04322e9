package canary

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/redaction"
)

// canary is a secret that is nowhere but where it was planted. Each holds signs
// that are escaped in JSON, XML and URLs.
func canary() string {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // never fails
	return `Cn<` + hex.EncodeToString(random) + `&"/=`
}

// scanner knows all forms of all secrets, and remembers where it found one.
type scanner struct {
	forms map[string][][]byte // by the name of the secret

	mu   sync.Mutex
	hits map[hit]int
	seen map[string]int64 // bytes that were looked at, by sink
}

// hit says where which secret was found, and never the secret.
type hit struct{ sink, place, secret string }

func newScanner(secrets map[string]string) *scanner {
	s := &scanner{forms: map[string][][]byte{}, hits: map[hit]int{}, seen: map[string]int64{}}
	for name, secret := range secrets {
		s.forms[name] = redaction.Forms([]byte(secret))
	}
	return s
}

// scan looks at a text.
func (s *scanner) scan(sink, place string, text []byte) {
	found := map[string]int{}
	for name, forms := range s.forms {
		for _, form := range forms {
			found[name] += bytes.Count(text, form)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[sink] += int64(len(text))
	for name, n := range found {
		if n > 0 {
			s.hits[hit{sink, place, name}] += n
		}
	}
}

// scanFiles looks at the files below a directory that were written since a moment
// before the secrets were made: no other can hold one, and what a host was copied from
// keeps its times. Names are looked at as well.
func (s *scanner) scanFiles(sink, dir string, since time.Time, leaveOut func(path string) bool) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that is gone holds nothing
		}
		s.scan(sink, "the name of a file", []byte(entry.Name()))
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since) || leaveOut(path) {
			return nil //nolint:nilerr // as above
		}
		content, err := os.ReadFile(path)
		if err == nil {
			s.scan(sink, path, content)
		}
		return nil
	})
}

// take returns the hits in a sink and forgets them.
func (s *scanner) take(sink string) []hit {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []hit
	for h := range s.hits {
		if h.sink == sink {
			taken = append(taken, h)
			delete(s.hits, h)
		}
	}
	return taken
}

// report fails the test for each hit, and for each sink at which nothing was looked at.
func (s *scanner) report(t *testing.T, sinks []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for h, n := range s.hits {
		t.Errorf("%s: %s is found %d times in %s", h.sink, h.secret, n, h.place)
	}
	for _, sink := range sinks {
		if s.seen[sink] == 0 {
			t.Errorf("%s: nothing was looked at", sink)
		}
	}
	for _, sink := range slices.Sorted(maps.Keys(s.seen)) {
		t.Logf("%-22s %9d bytes, for %d secrets", sink, s.seen[sink], len(s.forms))
	}
}

// processes looks at the arguments and the environments of all processes of this
// machine, among them those of the operator and of both hosts, until it is stopped.
type processes struct {
	scanner *scanner
	stop    chan struct{}
	done    sync.WaitGroup
	rounds  int
}

func watchProcesses(s *scanner) *processes {
	p := &processes{scanner: s, stop: make(chan struct{})}
	p.done.Go(p.watch)
	return p
}

func (p *processes) watch() {
	known := map[string]string{} // what a file of /proc said last
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		p.look(known)
		p.rounds++
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
	}
}

func (p *processes) look(known map[string]string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, entry := range entries {
		if strings.Trim(entry.Name(), "0123456789") != "" {
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			path := filepath.Join("/proc", entry.Name(), file)
			content, err := os.ReadFile(path)
			if err == nil && known[path] != string(content) {
				known[path] = string(content)
				p.scanner.scan(file, programOf(entry.Name()), withoutToken(content))
			}
		}
	}
}

// withoutToken leaves out the one variable that a script was declared with: POSIX
// shows it in the processes of that script, to root and to the script's user (docs/security.md).
// Anything else in an environment is a leak, and so is the variable's value in another place.
func withoutToken(environment []byte) []byte {
	var kept [][]byte
	for entry := range bytes.SplitSeq(environment, []byte{0}) {
		if !bytes.HasPrefix(entry, []byte(tokenVariable+"=")) {
			kept = append(kept, entry)
		}
	}
	return bytes.Join(kept, []byte{0})
}

// programOf names a process without its arguments.
func programOf(pid string) string {
	name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
}

func (p *processes) end() int {
	close(p.stop)
	p.done.Wait()
	return p.rounds
}

// TestTheScannerFindsEachForm: what it says of the sinks is worth what it finds.
func TestTheScannerFindsEachForm(t *testing.T) {
	secret := canary()
	for _, form := range redaction.Forms([]byte(secret)) {
		s := newScanner(map[string]string{"the secret": secret, "another": canary()})
		s.scan("sink", "place", slices.Concat([]byte("before "), form, []byte(" after")))
		if hits := s.take("sink"); len(hits) != 1 || hits[0].secret != "the secret" {
			t.Errorf("%q: found %v", form, hits)
		}
	}
	s := newScanner(map[string]string{"the secret": secret})
	s.scan("sink", "place", []byte(secret[:len(secret)-1]+secret[1:]))
	if hits := s.take("sink"); len(hits) != 0 {
		t.Errorf("found %v in a text that does not hold it", hits)
	}
}
