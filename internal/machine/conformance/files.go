package conformance

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

func testFiles(t *testing.T, s *suite) {
	t.Run("Delivered", func(t *testing.T) { s.delivered(t) })
	t.Run("WrongDigest", func(t *testing.T) { s.wrongDigest(t) })
	t.Run("Whole", func(t *testing.T) { s.whole(t) })
	t.Run("Directory", func(t *testing.T) { s.directory(t) })
	t.Run("Removed", func(t *testing.T) { s.removed(t) })
	if s.System == POSIX {
		t.Run("Modes", func(t *testing.T) { s.modes(t) })
		t.Run("Links", func(t *testing.T) { s.links(t) })
	}
}

// delivered: any content, under any name, in directories that were not there.
func (s *suite) delivered(t *testing.T) {
	contents := map[string]string{
		s.path("deep", "er", "plain.txt"):        "plain\n",
		s.path("a name with blanks.txt"):         "blanks",
		s.path("größe-ж-日本.txt"):                 "größe",
		s.path("it's (a) & name; #1 + $HOME.tx"): "signs",
		s.path("empty"):                          "",
		s.path("binary"):                         "\x00\x01\xff\xfe\r\n\x1a'\"$`\\\n",
		s.path("no-newline"):                     "no newline",
		s.path("large"):                          strings.Repeat("0123456789abcde\n", 20_000),
	}
	steps := make([]machine.Step, 0, len(contents))
	for path, content := range contents {
		steps = append(steps, put(path, content))
	}
	s.succeed(t, steps...)
	for path, content := range contents {
		s.holds(t, path, content)
	}
	s.succeed(t, steps...)
	for path, content := range contents {
		s.holds(t, path, content)
	}
}

// wrongDigest: what does not have its digest is not put in place.
func (s *suite) wrongDigest(t *testing.T) {
	path := s.path("guarded", "file")
	s.succeed(t, put(path, "right"))
	wrong := put(path, "wrong")
	wrong.SHA256 = digest("another")
	job := s.job(wrong)
	if state, err := s.first.Start(limited(t), job); err == nil {
		require.Equal(t, machine.JobFailed, await(t, s.first, job.ID, state).Phase)
	}
	s.holds(t, path, "right")
	require.Equal(t, 1, s.entries(t, s.path("guarded")), "a temporary file is left")
}

// whole: whoever looks sees the old content or the new one, and never part of one or none.
func (s *suite) whole(t *testing.T) {
	path := s.path("whole", "file")
	versions := []string{strings.Repeat("old", 100_000), strings.Repeat("newer", 80_000)}
	s.succeed(t, put(path, versions[0]))
	done := make(chan struct{})
	var group sync.WaitGroup
	seen := map[string]int{}
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			observation, err := s.second.Observe(t.Context(), []machine.Check{machine.File{Path: path}})
			if err != nil {
				seen[err.Error()]++
				return
			}
			state, _ := observation.Answers[machine.File{Path: path}].(machine.FileState)
			seen[state.SHA256]++
		}
	})
	for i := range 6 {
		s.succeed(t, put(path, versions[(i+1)%2]))
	}
	close(done)
	group.Wait()
	total := 0
	for _, n := range seen {
		total += n
	}
	require.Equal(t, total, seen[digest(versions[0])]+seen[digest(versions[1])], "seen besides the two versions: %v", seen)
	require.Equal(t, 1, s.entries(t, s.path("whole")), "a temporary file is left")
}

// directory: a directory is in the way of a file, and stays.
func (s *suite) directory(t *testing.T) {
	s.succeed(t, put(s.path("dir", "inside"), "x"))
	require.Equal(t, machine.FileDirectory, see[machine.FileState](t, s.first, machine.File{Path: s.path("dir")}).Kind)
	s.fail(t, put(s.path("dir"), "y"))
	s.end(t, s.job(machine.RemoveFile{Path: s.path("dir")})) // whether there is no file, or something else, is a matter of taste
	s.holds(t, s.path("dir", "inside"), "x")
	require.Equal(t, 1, s.entries(t, s.path("dir")), "the file was moved into the directory")
}

func (s *suite) removed(t *testing.T) {
	path := s.path("to be removed")
	s.succeed(t, put(path, "x"))
	s.succeed(t, machine.RemoveFile{Path: path})
	s.absent(t, path)
	s.succeed(t, machine.RemoveFile{Path: path})
}

func (s *suite) modes(t *testing.T) {
	path := s.path("mode")
	step := put(path, "one")
	s.succeed(t, step)
	require.Equal(t, uint32(0o644), s.holds(t, path, "one").Mode, "of a new file")
	for _, mode := range []uint32{0o600, 0o755, 0o4750, 0o640} {
		step.Mode = mode
		s.succeed(t, step)
		require.Equal(t, mode, s.holds(t, path, "one").Mode)
	}
	s.succeed(t, put(path, "two"))
	state := s.holds(t, path, "two")
	require.Equal(t, uint32(0o640), state.Mode, "a mode that is not managed is kept")
	require.NotEmpty(t, state.Owner)
	require.NotEmpty(t, state.Group)
	step = put(path, "three")
	step.Owner, step.Group = state.Owner, state.Group
	s.succeed(t, step)
	require.Equal(t, state.Owner+":"+state.Group, func() string { n := s.holds(t, path, "three"); return n.Owner + ":" + n.Group }())
}

// links: a link is replaced, and what it points at is left alone.
func (s *suite) links(t *testing.T) {
	target, link := s.path("target"), s.path("link")
	s.succeed(t, put(target, "target"), s.run("ln -s '"+target+"' '"+link+"'"))
	require.Equal(t, machine.FileSymlink, see[machine.FileState](t, s.first, machine.File{Path: link}).Kind)
	s.succeed(t, put(link, "replaced"))
	s.holds(t, link, "replaced")
	s.holds(t, target, "target")
}
