package posix

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	clocktesting "k8s.io/utils/clock/testing"
)

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestPutFile(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		me, err := user.Current()
		require.NoError(t, err)
		group, err := user.LookupGroupId(me.Gid)
		require.NoError(t, err)
		file := dir + "/new/deep/ledger.conf"
		content := "first\x00\xff\n"
		succeed(t, m, testJob("new", machine.PutFile{Path: file, Content: machine.Secret(content)}))
		want := machine.FileState{
			Kind: machine.FileRegular, SHA256: digestOf(content), Size: int64(len(content)),
			Mode: 0o644, Owner: me.Username, Group: group.Name,
		}
		require.Equal(t, want, observe(t, m, machine.File{Path: file}))
		info, err := os.Stat(filepath.Dir(file))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode().Perm())

		require.NoError(t, os.Chmod(file, 0o600))
		succeed(t, m, testJob("kept", machine.PutFile{Path: file, Content: machine.Secret("second")}))
		want.SHA256, want.Size, want.Mode = digestOf("second"), 6, 0o600
		require.Equal(t, want, observe(t, m, machine.File{Path: file}), "the mode is kept")

		succeed(t, m, testJob("setid", machine.PutFile{
			Path: file, Content: machine.Secret(""), Mode: 0o4750, Owner: me.Username, Group: group.Name,
		}))
		want.SHA256, want.Size, want.Mode = digestOf(""), 0, 0o4750
		require.Equal(t, want, observe(t, m, machine.File{Path: file}))
		entries, err := os.ReadDir(filepath.Dir(file))
		require.NoError(t, err)
		require.Len(t, entries, 1, "no temporary file is left")

		succeed(t, m, testJob("gone", machine.RemoveFile{Path: file}))
		succeed(t, m, testJob("gone-already", machine.RemoveFile{Path: dir + "/none/x"}))
		require.Equal(t, machine.FileState{Kind: machine.FileAbsent}, observe(t, m, machine.File{Path: file}))
	})
}

func TestPutFileOwner(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		file := t.TempDir() + "/f"
		succeed(t, m, testJob("give", machine.PutFile{Path: file, Content: machine.Secret("x"), Owner: "nobody", Group: "12345"}))
		state := observe(t, m, machine.File{Path: file}).(machine.FileState)
		require.Equal(t, "nobody", state.Owner)
		require.Equal(t, "12345", state.Group, "a group without a name has a number")
		succeed(t, m, testJob("keep", machine.PutFile{Path: file, Content: machine.Secret("y")}))
		state = observe(t, m, machine.File{Path: file}).(machine.FileState)
		require.Equal(t, "nobody", state.Owner)
		require.Equal(t, "12345", state.Group)
	})
}

// TestAFailedPutLeavesNothing: neither the content nor a name that nobody knows.
func TestAFailedPutLeavesNothing(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		state := finish(t, m, testJob("owner", machine.PutFile{Path: dir + "/f", Content: machine.Secret("hunter2"), Owner: "no-such-user"}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "cannot give the file to no-such-user")
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

func TestPutFileWhereTheUserMayNot(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := openDir(t)
		require.NoError(t, os.Mkdir(dir+"/of-root", 0o755))
		m.options.StateDir = dir + "/state"
		require.NoError(t, os.Mkdir(dir+"/state", 0o700))
		require.NoError(t, os.Chown(dir+"/state", 65534, 65534))
		h.credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		state := finish(t, m, testJob("put", machine.PutFile{Path: dir + "/of-root/f"}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "may not write in "+dir+"/of-root")
	})
}

func TestPutFileOntoOtherThings(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		put := func(id, path string) machine.JobState {
			return start(t, m, testJob(id, machine.PutFile{Path: path, Content: machine.Secret("new")}))
		}
		require.NoError(t, os.Mkdir(dir+"/directory", 0o700))
		state := put("directory", dir+"/directory")
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, dir+"/directory is a directory", state.Message)
		require.Equal(t, machine.JobFailed, finish(t, m, testJob("rmdir", machine.RemoveFile{Path: dir + "/directory"})).Phase)

		require.NoError(t, os.WriteFile(dir+"/target", []byte("old"), 0o600))
		for link, target := range map[string]string{"to-file": "target", "to-directory": "directory", "to-nothing": "nothing"} {
			require.NoError(t, os.Symlink(target, dir+"/"+link))
			require.Equal(t, machine.JobSucceeded, put(link, dir+"/"+link).Phase)
			info, err := os.Lstat(dir + "/" + link)
			require.NoError(t, err)
			require.True(t, info.Mode().IsRegular(), "%s is replaced and not followed", link)
		}
		content, err := os.ReadFile(dir + "/target")
		require.NoError(t, err)
		require.Equal(t, "old", string(content))
		entries, err := os.ReadDir(dir + "/directory")
		require.NoError(t, err)
		require.Empty(t, entries)

		state = put("through-a-file", dir+"/target/x")
		require.Equal(t, machine.JobFailed, state.Phase)
	})
}

// TestLinksOnTheWay: whoever owns a directory above cannot lead us elsewhere.
func TestLinksOnTheWay(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(dir+"/real", 0o755))
		require.NoError(t, os.Symlink("real", dir+"/roots"))
		require.NoError(t, os.Symlink("real", dir+"/others"))
		require.NoError(t, os.Lchown(dir+"/others", 65534, 65534))
		succeed(t, m, testJob("roots", machine.PutFile{Path: dir + "/roots/f", Content: machine.Secret("x")}))
		state := finish(t, m, testJob("others", machine.PutFile{Path: dir + "/others/g", Content: machine.Secret("x")}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, dir+"/others is a symbolic link that does not belong to root", state.Message)
		require.Equal(t, machine.JobFailed, finish(t, m, testJob("rm", machine.RemoveFile{Path: dir + "/others/f"})).Phase)
		require.FileExists(t, dir+"/real/f")
		require.NoFileExists(t, dir+"/real/g")
	})
}

// TestTemporaryFileInTheWay: what lies at its place is not written to.
func TestTemporaryFileInTheWay(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		file := dir + "/f"
		temporary := dir + "/" + target(file)[strings.LastIndex(target(file), ".isthmus-"):]
		require.NoError(t, os.WriteFile(dir+"/victim", []byte("untouched"), 0o600))
		require.NoError(t, os.Symlink("victim", temporary))
		succeed(t, m, testJob("put", machine.PutFile{Path: file, Content: machine.Secret("x")}))
		victim, err := os.ReadFile(dir + "/victim")
		require.NoError(t, err)
		require.Equal(t, "untouched", string(victim))
		require.NoFileExists(t, temporary)
	})
}

func TestLargeFile(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		content := make([]byte, 2<<20)
		_, _ = rand.Read(content)
		file := t.TempDir() + "/large"
		succeed(t, m, testJob("large", machine.PutFile{Path: file, Content: content}))
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	})
}

// TestDecodingWithoutTools: the decoder in plain shell.
func TestDecodingWithoutTools(t *testing.T) {
	for _, h := range hosts(t) {
		t.Run(h.name, func(t *testing.T) {
			for size := range 80 {
				content := make([]byte, size)
				_, _ = rand.Read(content)
				s := &script{}
				s.use("steps", "file")
				s.line("decode_here <<'E'")
				encoded := base64.StdEncoding.EncodeToString(content)
				for len(encoded) > base64Line {
					s.line("%s", encoded[:base64Line])
					encoded = encoded[base64Line:]
				}
				s.line("%s\nE", encoded)
				out, err := exec.Command(h.shell, "-c", s.String()).CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Equal(t, content, out, "%d bytes", size)
			}
		})
	}
}

// payloads are texts that have broken quoting somewhere, and some by chance.
func payloads() []string {
	list := []string{
		"a", "it's", `"`, `\`, `\\`, `$HOME`, "$(id)", "`id`", "-rf", "--", "-n", "-e", "a b", " a", "a ", "*", "?", "[a]", "~", "~root",
		"#", "a#", "!", "!!", "%s", "%", "&", "|", ";", "<", ">", "(", ")", "{a,b}", "\n", "a\nb", "\na", "a\n\n", "\r", "\r\n", "\t", "a\tb",
		"'", "''", "'''", `'"'`, `\'`, `'\''`, "\\\n", "\x01", "\x7f", "\x1b[31m", "\x81", "\x88\x80", "ÄÖÜ", "Á", "日本語", "\xff\xfe", "ISTHMUS_CONTENT",
		"a\nISTHMUS_CONTENT\nb", "EOF_LINES", "${x}", "$'\\n'", "a=b", "=", ":", "^", "@", "+", ",", "\\n", "\\0", "\\c", "a\\", "...", ".a",
	}
	source := mathrand.New(mathrand.NewPCG(1, 2))
	alphabet := []byte("'\"\\$`\n\r\t *?-;&|<>(){}[]#!%~=\x01\x80\x81\x82\x88\x89\xff a")
	for range 200 {
		text := make([]byte, 1+source.IntN(12))
		for i := range text {
			text[i] = alphabet[source.IntN(len(alphabet))]
		}
		list = append(list, string(text))
	}
	return list
}

// TestQuoting: what is quoted comes out of every shell as it was, by itself,
// in a function, and in a here-document that is run as a script.
func TestQuoting(t *testing.T) {
	list := payloads()
	require.Greater(t, len(list), 250)
	for _, h := range hosts(t) {
		t.Run(h.name, func(t *testing.T) {
			var text, want strings.Builder
			text.WriteString("f() {\n")
			for _, payload := range list {
				text.WriteString("printf '%s\\0' " + quote(payload) + "\n")
				want.WriteString(payload + "\x00")
			}
			text.WriteString("}\nf\n")
			direct, err := runShell(h, text.String())
			require.NoError(t, err)
			require.Equal(t, want.String(), direct)
			delivered, err := runShell(h, "g() {\ncat <<'ISTHMUS_X'\n"+text.String()+"ISTHMUS_X\n}\ng\n")
			require.NoError(t, err)
			require.Equal(t, text.String(), delivered)
		})
	}
}

func runShell(h *localHost, text string) (string, error) {
	cmd := exec.Command(h.shell, "-s")
	cmd.Env = []string{"LC_ALL=C", "PATH=" + h.bin + ":" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	return string(out), err
}

func FuzzQuote(f *testing.F) {
	for _, payload := range payloads() {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) {
			t.Skip("no word of a shell holds a NUL byte")
		}
		out, err := exec.Command("dash", "-c", "printf %s "+quote(text)).Output()
		require.NoError(t, err)
		require.Equal(t, text, string(out))
	})
}

// TestStrangeNames: delivered, found and removed under any name that Linux allows.
func TestStrangeNames(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		var checks []machine.Check
		var put, remove []machine.Step
		for i, payload := range payloads()[:110] {
			name := dir + "/d" + strings.ReplaceAll(payload, "/", "_") + "/" + strings.ReplaceAll(payload, "/", "_")
			if validPath(name) != nil || len(checks) > 0 && contains(checks, name) {
				continue
			}
			checks = append(checks, machine.File{Path: name})
			put = append(put, machine.PutFile{Path: name, Content: machine.Secret(fmt.Sprint(i)), SHA256: digestOf(fmt.Sprint(i))})
			remove = append(remove, machine.RemoveFile{Path: name})
		}
		require.Greater(t, len(put), 80)
		succeed(t, m, testJob("put", put...))
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		for i, check := range checks {
			state, ok := observation.Answers[check].(machine.FileState)
			require.True(t, ok, "%q: %v", check, observation.Answers[check])
			require.Equal(t, put[i].(machine.PutFile).SHA256, state.SHA256, "%q", check)
		}
		succeed(t, m, testJob("remove", remove...))
		observation, err = m.Observe(testContext(t), checks)
		require.NoError(t, err)
		for _, check := range checks {
			require.Equal(t, machine.FileState{Kind: machine.FileAbsent}, observation.Answers[check], "%q", check)
		}
	})
}

func contains(checks []machine.Check, name string) bool {
	for _, check := range checks {
		if check == (machine.File{Path: name}) {
			return true
		}
	}
	return false
}

func TestKindsOfFiles(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		require.NoError(t, os.Symlink("nowhere", dir+"/link"))
		require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o600))
		require.NoError(t, os.WriteFile(dir+"/file", nil, 0o600))
		for path, kind := range map[string]machine.FileKind{
			dir: machine.FileDirectory, dir + "/link": machine.FileSymlink, dir + "/fifo": machine.FileOther,
			dir + "/none": machine.FileAbsent, dir + "/none/x": machine.FileAbsent, dir + "/file/x": machine.FileAbsent,
			dir + "/link/x": machine.FileAbsent,
		} {
			require.Equal(t, machine.FileState{Kind: kind}, observe(t, m, machine.File{Path: path}), path)
		}
	})
}

// TestWhatMayNotBeSeenIsNotAbsent: as a user without rights.
func TestWhatMayNotBeSeenIsNotAbsent(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := openDir(t)
		m.options.StateDir = dir + "/closed/state"
		require.NoError(t, os.MkdirAll(dir+"/closed/state", 0o700))
		require.NoError(t, os.WriteFile(dir+"/closed/file", nil, 0o644))
		require.NoError(t, os.WriteFile(dir+"/unreadable", nil, 0o600))
		h.credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		for _, check := range []machine.Check{
			machine.File{Path: dir + "/closed/file"}, machine.File{Path: dir + "/closed/none"}, machine.File{Path: dir + "/unreadable"},
		} {
			require.Equal(t, denied, observe(t, m, check), "%v", check)
		}
		for _, check := range []machine.Check{machine.Mark{Subject: "x"}, machine.JobReceipt{ID: "x"}} {
			require.Equal(t, closed, observe(t, m, check), "%v", check)
		}
		require.Equal(t, machine.FileState{Kind: machine.FileAbsent}, observe(t, m, machine.File{Path: dir + "/none"}))
		_, err := m.Start(testContext(t), testJob("x", reload))
		refused := &machine.RefusedError{}
		require.ErrorAs(t, err, &refused)
		require.ErrorContains(t, err, "Permission denied")
	})
}

// TestUnchangedFilesAreNotRead: once a digest has settled, stat is enough.
func TestUnchangedFilesAreNotRead(t *testing.T) {
	h := hosts(t)[0]
	if h.name == "busybox" {
		h = hosts(t)[1]
	}
	if h.name == "busybox" {
		h = hosts(t)[2]
	}
	clock := clocktesting.NewFakePassiveClock(time.Now())
	m := New(h, Options{StateDir: t.TempDir(), Clock: clock})
	m.shell = h.shell
	read := filepath.Join(t.TempDir(), "read")
	h.tool(t, "sha256sum", "echo read >>"+read+`; exec /usr/bin/sha256sum "$@"`)
	dir := t.TempDir()
	checks := []machine.Check{machine.File{Path: dir + "/a"}, machine.File{Path: dir + "/b"}, machine.File{Path: dir + "/o\\dd"}}
	for _, check := range checks {
		require.NoError(t, os.WriteFile(check.(machine.File).Path, []byte("one"), 0o600))
	}
	look := func(content string, reads int) {
		t.Helper()
		_ = os.Remove(read)
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		for _, check := range checks[:2] {
			require.Equal(t, digestOf(content), observation.Answers[check].(machine.FileState).SHA256)
		}
		count := 0
		if _, err := os.Stat(read); err == nil {
			count = len(fields(t, read))
		}
		require.Equal(t, reads, count)
	}
	look("one", 2) // One process for all, and one for the name that is printed in another way.
	look("one", 2)
	clock.SetTime(clock.Now().Add(settleTime))
	look("one", 2) // Read once more: two changes in one tick of a clock look like one.
	look("one", 0)
	for _, check := range checks[:2] {
		require.NoError(t, os.WriteFile(check.(machine.File).Path, []byte("two"), 0o600))
	}
	look("two", 1)
}
