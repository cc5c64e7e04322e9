package posix

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// mounted is a small file system of its own.
func mounted(t *testing.T, options string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("isthmus-test", dir, "tmpfs", 0, options); err != nil {
		missing(t, "nothing can be mounted here: "+err.Error())
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// requireAsItWas: the old file, and nothing beside it.
func requireAsItWas(t *testing.T, dir string) {
	t.Helper()
	got, err := os.ReadFile(dir + "/f")
	require.NoError(t, err)
	require.Equal(t, "old", string(got))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestFullDisk(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		dir := mounted(t, "size=64k")
		require.NoError(t, os.WriteFile(dir+"/f", []byte("old"), 0o600))
		state := finish(t, m, testJob("put", machine.PutFile{Path: dir + "/f", Content: make([]byte, 200<<10)}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "is the disk full?")
		requireAsItWas(t, dir)
		opened := 0
		blob := randomBlob(t, 200<<10, &opened)
		require.NoError(t, m.Stage(testContext(t), blob))
		state = finish(t, m, testJob("place", machine.PlaceFile{Path: dir + "/f", SHA256: blob.SHA256, Size: blob.Size}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "is the disk full?")
		requireAsItWas(t, dir)
		require.FileExists(t, filepath.Join(m.options.StateDir, "blobs", blob.SHA256), "it can be placed once there is room")
		succeed(t, m, testJob("fits", machine.PutFile{Path: dir + "/f", Content: make([]byte, 10<<10)}))

		m.options.StateDir = dir + "/state"
		err := m.Stage(testContext(t), blob)
		require.ErrorContains(t, err, "is the disk full?")
		left, err := os.ReadDir(dir + "/state/blobs")
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// fillInodes leaves room for no new file on a file system.
func fillInodes(t *testing.T, dir string) {
	t.Helper()
	for i := range 10_000 {
		if os.WriteFile(fmt.Sprintf("%s/fill-%d", dir, i), nil, 0o600) != nil {
			return
		}
	}
	t.Fatal("there is room for ever")
}

// TestNoNewFiles: a file system without room for one more file. To write an empty file is no reason to give up all.
func TestNoNewFiles(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		h.tool(t, "systemctl", "exec sleep 20")
		dir := mounted(t, "size=1m,nr_inodes=64")
		m.options.StateDir = dir
		job := testJob("hangs", reload)
		job.Timeout = 3 * time.Second
		state := start(t, m, job)
		require.Equal(t, machine.JobRunning, state.Phase)
		fillInodes(t, dir)
		state, err := m.Cancel(testContext(t), "hangs", 1)
		require.NoError(t, err, "the connection is as good as before")
		began := time.Now()
		state = await(t, m, "hangs", state)
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Less(t, time.Since(began), 15*time.Second, "its time was over before")

		require.NoError(t, os.RemoveAll(dir+"/epoch"))
		require.NoError(t, os.Mkdir(dir+"/epoch", 0o700))
		fillInodes(t, dir)
		_, err = m.Start(testContext(t), testJob("refused", reload))
		refused := &machine.RefusedError{}
		require.ErrorAs(t, err, &refused)
		require.Contains(t, refused.Reason, "cannot write into "+dir+"/epoch")
	})
}

// TestEpochIsLostBeforeTheJobBegins: what is not begun has no receipt.
func TestEpochIsLostBeforeTheJobBegins(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		preferApplets(t, h)
		h.tool(t, "setsid", fmt.Sprintf(`x=%s/epoch/%019d; rm -f "$x"; mkdir "$x"; exec /usr/bin/setsid "$@"`, m.options.StateDir, 1))
		_, err := m.Start(testContext(t), testJob("refused", reload))
		refused := &machine.RefusedError{}
		require.ErrorAs(t, err, &refused)
		require.Equal(t, machine.JobAbsent, receipt(t, m, "refused").Phase)
	})
}

func TestReadOnlyAndImmutable(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		dir := mounted(t, "size=64k")
		require.NoError(t, os.WriteFile(dir+"/f", []byte("old"), 0o600))
		require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		state := finish(t, m, testJob("read-only", machine.PutFile{Path: dir + "/f", Content: machine.Secret("new")}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "read-only")
		requireAsItWas(t, dir)

		other := openDir(t)
		require.NoError(t, os.WriteFile(other+"/f", []byte("old"), 0o600))
		if out, err := exec.Command("chattr", "+i", other+"/f").CombinedOutput(); err != nil {
			t.Logf("no file can be made immutable here: %s", out)
			return
		}
		t.Cleanup(func() { require.NoError(t, exec.Command("chattr", "-i", other+"/f").Run()) })
		state = finish(t, m, testJob("immutable", machine.PutFile{Path: other + "/f", Content: machine.Secret("new")}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Contains(t, state.Message, "cannot rename to "+other+"/f")
		requireAsItWas(t, other)
	})
}

// TestLinkInADirectoryOfOthers: even root's link, where others could exchange it.
func TestLinkInADirectoryOfOthers(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		dir := openDir(t)
		require.NoError(t, os.Mkdir(dir+"/real", 0o755))
		require.NoError(t, os.Symlink("real", dir+"/link"))
		step := machine.PutFile{Path: dir + "/link/f", Content: machine.Secret("x")}
		for i, mode := range []os.FileMode{0o777, 0o775} {
			require.NoError(t, os.Chmod(dir, mode))
			state := finish(t, m, testJob(fmt.Sprintf("open-%d", i), step))
			require.Equal(t, machine.JobFailed, state.Phase)
			require.Contains(t, state.Message, "is a symbolic link in a directory that others may write to")
		}
		require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
		succeed(t, m, testJob("sticky", step))

		require.NoError(t, os.Chown(dir, 65534, 65534))
		for i, mode := range []os.FileMode{0o755, 0o777 | os.ModeSticky} {
			require.NoError(t, os.Chmod(dir, mode))
			state := finish(t, m, testJob(fmt.Sprintf("theirs-%d", i), step))
			require.Equal(t, machine.JobFailed, state.Phase, "who owns a directory can exchange what is in it")
			require.Contains(t, state.Message, "is a symbolic link in a directory that others may write to")
		}
	})
}

// TestSwapper: a user exchanges a directory of theirs for a link, over and over. What root delivers is never
// found where the link leads.
func TestSwapper(t *testing.T) {
	needRoot(t)
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		dir := openDir(t)
		theirs, target := dir+"/theirs", dir+"/target"
		require.NoError(t, os.Mkdir(theirs, 0o755))
		require.NoError(t, os.Mkdir(target, 0o755))
		require.NoError(t, os.Chown(theirs, 65534, 65534))
		swap := exec.Command("/bin/sh", "-c", `cd "$1" && i=0 && while :; do mkdir sub; mv -T sub "old-$i"; ln -s "$2" sub; rm -f sub; i=$((i+1)); done 2>/dev/null`, "swap", theirs, target)
		swap.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Setpgid: true}
		require.NoError(t, swap.Start())
		t.Cleanup(func() {
			_ = syscall.Kill(-swap.Process.Pid, syscall.SIGKILL)
			_ = swap.Wait()
		})
		phases := map[machine.JobPhase]int{}
		for i := range 8 {
			var steps []machine.Step
			for j := range 6 {
				steps = append(steps, machine.PutFile{Path: fmt.Sprintf("%s/sub/f%d-%d", theirs, i, j), Content: machine.Secret("x")})
			}
			id := fmt.Sprintf("put-%d", i)
			phases[await(t, m, id, start(t, m, testJob(id, steps...))).Phase]++
		}
		t.Log(phases)
		entries, err := os.ReadDir(target)
		require.NoError(t, err)
		require.Empty(t, entries)
	})
}

// TestNoMemoryOfAnEndlessScript: neither the host nor we keep what it prints.
func TestNoMemoryOfAnEndlessScript(t *testing.T) {
	_, client := realServer(t)
	m := New(client, Options{StateDir: filepath.Join(t.TempDir(), "state")})
	endless := asking("exec cat /dev/zero")
	endless.Timeout = 2 * time.Second
	require.Equal(t, "Timeout", observe(t, m, endless).(machine.Problem).Reason)
}
