package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// blob is content, and how often it was asked for.
type blob struct {
	content []byte
	opened  int
	broken  bool // it cannot be read to its end
}

func newBlob(size int64) *blob {
	content := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = random.Read(content) // never fails
	return &blob{content: content}
}

func (b *blob) digest() string { return digest(b.content) }

func (b *blob) blob() machine.Blob {
	return machine.Blob{SHA256: b.digest(), Size: b.most(), Open: func(context.Context) (io.ReadCloser, error) {
		b.opened++
		if b.broken {
			half := io.MultiReader(bytes.NewReader(b.content[:len(b.content)/2]), iotest.ErrReader(errors.New("the source is gone")))
			return io.NopCloser(half), nil
		}
		return io.NopCloser(bytes.NewReader(b.content)), nil
	}}
}

func (b *blob) place(path string) machine.PlaceFile {
	return machine.PlaceFile{Path: path, SHA256: b.digest(), Size: b.most()}
}

func testStaging(t *testing.T, s *suite) {
	for name, size := range map[string]int64{"Large": s.LargeSize, "Small": 3, "Empty": 0} {
		t.Run(name, func(t *testing.T) { s.staged(t, newBlob(size), s.path("staged", name)) })
	}
	t.Run("Broken", func(t *testing.T) { s.brokenSource(t) })
	t.Run("WrongContent", func(t *testing.T) { s.wrongContent(t) })
	t.Run("NotStaged", func(t *testing.T) {
		s.fail(t, newBlob(1234).place(s.path("not staged")))
		s.absent(t, s.path("not staged"))
	})
}

// staged: sent once, put in place once.
func (s *suite) staged(t *testing.T, b *blob, path string) {
	require.NoError(t, s.first.Stage(limited(t), b.blob()))
	require.NoError(t, s.second.Stage(limited(t), b.blob()))
	require.Equal(t, 1, b.opened, "it was sent again")
	s.absent(t, path)

	job := s.job(b.place(path))
	job.Blobs = []machine.Blob{b.blob()}
	require.Equal(t, machine.JobSucceeded, s.end(t, job).Phase)
	s.holds(t, path, string(b.content))
	s.fail(t, b.place(path+"-again"))
	s.absent(t, path+"-again")
	s.succeed(t, b.place(path)) // it is in its place
}

// brokenSource: half of it is not staged, and the next attempt is not in its way.
func (s *suite) brokenSource(t *testing.T) {
	b := newBlob(300_001)
	b.broken = true
	require.Error(t, s.first.Stage(limited(t), b.blob()))
	s.fail(t, b.place(s.path("broken")))
	s.absent(t, s.path("broken"))
	b.broken = false
	require.NoError(t, s.first.Stage(limited(t), b.blob()))
	s.succeed(t, b.place(s.path("broken")))
	s.holds(t, s.path("broken"), string(b.content))
}

func (s *suite) wrongContent(t *testing.T) {
	wrong, right := newBlob(5001), newBlob(5001)
	wrong.content = bytes.Repeat([]byte("x"), 5001)
	offered := right.blob()
	offered.Open = wrong.blob().Open
	err := s.first.Stage(limited(t), offered)
	require.Error(t, err)
	s.fail(t, right.place(s.path("wrong content")))
	s.absent(t, s.path("wrong content"))
}

func testFetching(t *testing.T, s *suite) {
	if s.Download == nil {
		t.Skip(s.NoDownload)
	}
	path := s.path("fetched", "a file")
	step := machine.FetchFile{Path: path, URL: s.Download.URL, SHA256: s.Download.SHA256, MaxSize: s.Download.Size}
	s.succeed(t, step)
	state := see[machine.FileState](t, s.second, machine.File{Path: path})
	require.Equal(t, s.Download.SHA256, state.SHA256)
	s.succeed(t, step)

	kept := s.path("fetched", "kept")
	s.succeed(t, put(kept, "as it was"))
	for name, change := range map[string]func(*machine.FetchFile){
		"another digest": func(f *machine.FetchFile) { f.SHA256 = digest("another") },
		"too large":      func(f *machine.FetchFile) { f.MaxSize = s.Download.Size - 1 },
		"not there":      func(f *machine.FetchFile) { f.URL += ".absent" },
	} {
		wrong := step
		wrong.Path = kept
		change(&wrong)
		message := s.fail(t, wrong).Message
		require.NotEmpty(t, message, name)
		s.holds(t, kept, "as it was")
	}
	require.Equal(t, 2, s.entries(t, s.path("fetched")), "a temporary file is left")
}

// most is larger than the content: nobody knows the size of a download before it was made.
func (b *blob) most() int64 { return int64(len(b.content)) + 4096 }
