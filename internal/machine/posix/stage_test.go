package posix

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// endless is content by chance, the same each time, of any length.
func endless(size int64) io.ReadCloser {
	return io.NopCloser(io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
}

func randomBlob(t testing.TB, size int64, opened *int) machine.Blob {
	t.Helper()
	sum := sha256.New()
	_, err := io.Copy(sum, endless(size))
	require.NoError(t, err)
	return machine.Blob{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: size, Open: func(context.Context) (io.ReadCloser, error) {
		*opened++
		return endless(size), nil
	}}
}

func digestOfFile(t testing.TB, path string) string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	require.NoError(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}

func TestStageAndPlace(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		opened := 0
		blob := randomBlob(t, 3<<20+17, &opened)
		dir := t.TempDir()
		require.NoError(t, m.Stage(testContext(t), blob))
		require.NoError(t, m.Stage(testContext(t), blob))
		require.Equal(t, 1, opened, "what is there is not sent again")
		staged := filepath.Join(m.options.StateDir, "blobs", blob.SHA256)
		info, err := os.Stat(staged)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

		// Damaged, it is sent again.
		require.NoError(t, os.WriteFile(staged, make([]byte, blob.Size), 0o600))
		require.NoError(t, m.Stage(testContext(t), blob))
		require.Equal(t, 2, opened)

		place := func(name string) machine.PlaceFile {
			return machine.PlaceFile{Path: dir + name, SHA256: blob.SHA256, Size: blob.Size, Mode: 0o750}
		}
		succeed(t, m, testJob("place", place("/new/a"), place("/b")))
		for _, name := range []string{"/new/a", "/b"} {
			require.Equal(t, blob.SHA256, digestOfFile(t, dir+name))
			info, err := os.Stat(dir + name)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o750), info.Mode().Perm())
		}
		require.NoFileExists(t, staged)
		one, err := os.Stat(dir + "/b")
		require.NoError(t, err)
		two, err := os.Stat(dir + "/new/a")
		require.NoError(t, err)
		require.False(t, os.SameFile(one, two))
		succeed(t, m, testJob("in-place", place("/b")))
		state := finish(t, m, testJob("not-staged", place("/c")))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "is not staged")
	})
}

func TestStageWhatIsNotWhole(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		opened := 0
		blob := randomBlob(t, 1<<20, &opened)
		whole := blob.Open
		broken := errors.New("the source is gone")
		for name, open := range map[string]func(context.Context) (io.ReadCloser, error){
			"other": func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.LimitReader(zeros{}, 1<<20)), nil
			},
			"short":  func(context.Context) (io.ReadCloser, error) { return endless(1000), nil },
			"closed": func(context.Context) (io.ReadCloser, error) { return nil, broken },
			"fails": func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(endless(1000), failing{broken})), nil
			},
		} {
			blob.Open = open
			err := m.Stage(testContext(t), blob)
			refused := &machine.RefusedError{}
			if name == "closed" || name == "fails" {
				require.ErrorIs(t, err, broken)
			} else {
				require.ErrorAs(t, err, &refused, name)
			}
			left, err := os.ReadDir(filepath.Join(m.options.StateDir, "blobs"))
			require.NoError(t, err)
			require.Empty(t, left, name)
		}
		// Of a longer one no more is read than it should have.
		blob.Open = func(context.Context) (io.ReadCloser, error) { return endless(2 << 20), nil }
		require.NoError(t, m.Stage(testContext(t), blob))
		// The size is an upper bound: nobody knows that of a download before it was made.
		require.NoError(t, os.Remove(filepath.Join(m.options.StateDir, "blobs", blob.SHA256)))
		blob.Open, blob.Size = whole, 1<<30
		require.NoError(t, m.Stage(testContext(t), blob))
	})
}

// TestStageOnAFullDisk: the host has answered, and the connection is as good as before.
func TestStageOnAFullDisk(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		opened := 0
		m.options.StateDir = mounted(t, "size=64k")
		err := m.Stage(testContext(t), randomBlob(t, 1<<20, &opened))
		refused := &machine.RefusedError{}
		require.ErrorAs(t, err, &refused)
		require.EqualError(t, err, "stage content: cannot write into "+m.options.StateDir+"/blobs: is the disk full?")
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestStaleBlobsGo(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		h.tool(t, "systemctl", "exit 0")
		opened := 0
		require.NoError(t, m.Stage(testContext(t), randomBlob(t, 10, &opened)))
		dir := filepath.Join(m.options.StateDir, "blobs")
		for _, name := range []string{strings.Repeat("a", 64), ".LEFT"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
			old := time.Now().Add(-25 * time.Hour)
			require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
		}
		succeed(t, m, testJob("next", reload))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.NoError(t, m.Forget(testContext(t), []string{"next"}))
		require.DirExists(t, m.options.StateDir, "staged content is for a job that comes")
		old := time.Now().Add(-25 * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(dir, left[0].Name()), old, old))
		require.NoError(t, m.Forget(testContext(t), nil))
		require.NoDirExists(t, m.options.StateDir)
	})
}

// TestStageOverOpenSSH: a hundred mebibytes are never in memory.
func TestStageOverOpenSSH(t *testing.T) {
	_, client := realServer(t)
	m := New(client, Options{StateDir: filepath.Join(t.TempDir(), "state")})
	opened := 0
	blob := randomBlob(t, 100<<20, &opened)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var stats runtime.MemStats
		most := uint64(0)
		for {
			runtime.ReadMemStats(&stats)
			most = max(most, stats.HeapInuse)
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	began := time.Now()
	require.NoError(t, m.Stage(testContext(t), blob))
	took := time.Since(began)
	close(stop)
	most := <-peak
	t.Logf("100 MiB in %v: %.0f MiB/s; at most %d MiB of heap", took, 100/took.Seconds(), most>>20)
	require.Less(t, most, uint64(40<<20))
	file := filepath.Join(t.TempDir(), "large")
	succeed(t, m, testJob("place", machine.PlaceFile{Path: file, SHA256: blob.SHA256, Size: blob.Size}))
	require.Equal(t, blob.SHA256, digestOfFile(t, file))
}

// TestPanicOfContent: content is opened while the host is heard, in a goroutine of its own.
func TestPanicOfContent(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		opened := 0
		blob := randomBlob(t, 10, &opened)
		open := blob.Open
		blob.Open = func(context.Context) (io.ReadCloser, error) { panic("odd source") }
		panicked := &defect.PanicError{}
		require.ErrorAs(t, m.Stage(testContext(t), blob), &panicked)
		blob.Open = open
		require.NoError(t, m.Stage(testContext(t), blob))
	})
}
