package posix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// requireNothingLeft: no process on this machine has the marker in its environment or its words.
func requireNothingLeft(t *testing.T, marker string) {
	t.Helper()
	var last []string
	require.Eventually(t, func() bool {
		last = nil
		for _, name := range []string{"environ", "cmdline"} {
			files, _ := filepath.Glob("/proc/[0-9]*/" + name)
			for _, file := range files {
				content, err := os.ReadFile(file)
				if err == nil && containsText(content, marker) {
					last = append(last, file)
				}
			}
		}
		return len(last) == 0
	}, 40*time.Second, 100*time.Millisecond, "left: %v", &last)
}

func containsText(content []byte, marker string) bool {
	for i := 0; i+len(marker) <= len(content); i++ {
		if string(content[i:i+len(marker)]) == marker {
			return true
		}
	}
	return false
}

// hanging is a script that ignores TERM, with a child that does.
func hanging(marker, begun string) machine.Script {
	c := asking(`trap '' TERM; (exec sleep 1000) & : >`+begun+`; while :; do sleep 1000; done`, variable("ISTHMUS_MARKER", marker))
	c.Timeout = 10 * time.Minute
	return c
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := os.Stat(path)
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
}

// TestCancelledPassLeavesNothing: the context of a pass ends, or its connection, while scripts hang.
func TestCancelledPassLeavesNothing(t *testing.T) {
	for _, how := range []string{"context", "connection"} {
		t.Run(how, func(t *testing.T) {
			_, client := realServer(t)
			m := New(client, Options{StateDir: filepath.Join(t.TempDir(), "state")})
			marker := fmt.Sprintf("isthmus-%s-%d", how, os.Getpid())
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			failed := make(chan error, 1)
			begun := filepath.Join(t.TempDir(), "begun")
			go func() {
				// The last would be begun when the first has ended.
				checks := []machine.Check{asking("trap '' TERM; : >" + begun + "1; sleep 1000")}
				for i := 2; i <= scriptLanes; i++ {
					checks = append(checks, hanging(marker, fmt.Sprint(begun, i)))
				}
				_, err := m.Observe(ctx, append(checks, asking(": >"+begun+"-late", variable("ISTHMUS_MARKER", marker))))
				failed <- err
			}()
			for i := 1; i <= scriptLanes; i++ {
				awaitFile(t, fmt.Sprint(begun, i))
			}
			if how == "context" {
				cancel()
			} else {
				require.NoError(t, client.Close())
			}
			lost := &transport.LostError{}
			require.ErrorAs(t, <-failed, &lost)
			requireNothingLeft(t, marker)
			requireNothingLeft(t, begun)
			require.NoFileExists(t, begun+"-late")
		})
	}
}

// TestCancelledStartLeavesAJob: what has begun goes on, and of the request nothing is left.
func TestCancelledStartLeavesAJob(t *testing.T) {
	_, client := realServer(t)
	dir := filepath.Join(t.TempDir(), "state")
	m := New(client, Options{StateDir: dir})
	marker := fmt.Sprintf("isthmus-start-%d", os.Getpid())
	begun := filepath.Join(t.TempDir(), "begun")
	job := testJob("hangs", machine.RunScript{
		Text:        machine.Secret("trap '' TERM; : >" + begun + "; while :; do sleep 1000; done"),
		Environment: []machine.Variable{variable("ISTHMUS_MARKER", marker)},
	})
	job.Timeout = 5 * time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := m.Start(ctx, job)
		failed <- err
	}()
	awaitFile(t, begun)
	cancel()
	<-failed
	require.Equal(t, machine.JobRunning, receipt(t, m, "hangs").Phase)
	state, err := m.Cancel(testContext(t), "hangs", 1)
	require.NoError(t, err)
	require.Equal(t, machine.JobCancelled, await(t, m, "hangs", state).Phase)
	requireNothingLeft(t, marker)
	requireNothingLeft(t, dir)
}
