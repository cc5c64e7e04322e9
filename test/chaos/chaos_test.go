package chaos

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/story"
)

// lease is how long a leader that has gone silent is waited for. Most rounds wait for it once.
const lease = 3 * time.Second

// TestChaos is one test on one bed: what a disturbance leaves behind is there for the next one.
func TestChaos(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("chaos needs root: it boots machines on a bridge")
		}
		t.Skip("chaos needs root: it boots machines on a bridge")
	}
	w := newWorld(t)
	for _, trouble := range []struct {
		name string
		test func(t *testing.T, w *world)
	}{
		{"kill", killed},
		{"freeze", frozen},
		{"cut", cutOff},
		{"reboot", rebooted},
		{"again", changedAgain},
		{"steady", steady},
	} {
		if !t.Run(trouble.name, func(t *testing.T) { trouble.test(t, w) }) {
			break
		}
	}
	t.Run("order", func(t *testing.T) { w.neverBack(t) })
	if t.Failed() {
		w.showLogs(t)
	}
}

// newWorld brings the bed up, with both services installed and Ready.
func newWorld(t *testing.T) *world {
	t.Helper()
	began := time.Now()
	bed, err := story.StartHosts(t.Context(), testLog{t}, lease)
	if bed != nil {
		t.Cleanup(func() {
			if err := bed.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	seed := chosenSeed(t)
	t.Logf("ISTHMUS_CHAOS_SEED=%d", seed)
	w := &world{Bed: bed, random: rand.New(rand.NewPCG(seed, 0)), operators: []*story.Operator{bed.Operator}}
	if err := bed.DeclareHosts(t.Context()); err != nil {
		w.showLogs(t)
		t.Fatal(err)
	}
	w.install(t)
	t.Logf("both services are installed and Ready %.1f s after the start", time.Since(began).Seconds())
	return w
}

func chosenSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("ISTHMUS_CHAOS_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal("ISTHMUS_CHAOS_SEED: ", err)
	}
	return seed
}

// showLogs prints the ends of the operators' logs.
func (w *world) showLogs(t *testing.T) {
	t.Helper()
	const last = 80
	for _, operator := range w.operators {
		for _, log := range operator.Logs() {
			content, err := os.ReadFile(log)
			if err != nil {
				t.Log(err)
				continue
			}
			// How the controllers start is the same each time.
			lines := slices.DeleteFunc(strings.Split(string(content), "\n"), func(line string) bool {
				return strings.Contains(line, `"msg":"Starting `)
			})
			t.Logf("%s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-last):], "\n"))
		}
	}
}

// testLog writes the bed's progress to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
