package linuxhost_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
)

// TestKilledOwner runs this test binary again as the owner of two machines, one of
// them rebooted and one frozen, and kills it with SIGKILL.
func TestKilledOwner(t *testing.T) {
	testbed(t)
	dir := t.TempDir()
	owner := osexec.Command(os.Args[0], "-test.run=^TestOwner$", "-test.v")
	owner.Env = append(os.Environ(), "LINUXHOST_OWNER="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	id, locks := awaitOwner(t, bufio.NewScanner(out))
	if left := leftovers(t, id); len(left) < 6 {
		t.Errorf("the owner has made %v, which is too little for this test to mean anything", left)
	}
	if len(existing(locks)) != 2 {
		t.Errorf("of the locks %v exist %v", locks, existing(locks))
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	start := time.Now()
	for {
		left := leftovers(t, id)
		if _, err := os.Stat(filepath.Join(dir, "machines")); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, "directory of the machines")
		}
		left = append(left, existing(locks)...)
		if len(left) == 0 {
			t.Logf("nothing is left %v after the owner was killed", time.Since(start))
			return
		}
		if time.Since(start) > 45*time.Second {
			log, _ := os.ReadFile(filepath.Join(dir, "janitor.log"))
			t.Fatalf("left behind: %s\n%s", strings.Join(left, "\n"), log)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// awaitOwner returns the id of the owner's network and the locks of its machines,
// once they run.
func awaitOwner(t *testing.T, lines *bufio.Scanner) (id string, locks []string) {
	t.Helper()
	var said []string
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) == 4 && words[0] == "network" {
			return words[1], words[2:]
		}
		said = append(said, lines.Text())
	}
	t.Fatalf("the owner has failed:\n%s", strings.Join(said, "\n"))
	return "", nil
}

func existing(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// lock is the file by which systemd-nspawn keeps a directory from being booted twice.
func lock(t *testing.T, m *linuxhost.Machine) string {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Stat(m.Root(), &stat); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/run/systemd/nspawn/locks/inode-%d:%d", stat.Dev, stat.Ino)
}

// TestOwner is the owner that TestKilledOwner starts; by itself it has nothing to do.
func TestOwner(t *testing.T) {
	dir := os.Getenv("LINUXHOST_OWNER")
	if dir == "" {
		return // a helper process, and nothing when TestKilledOwner does not start it
	}
	ctx := context.Background()
	j, err := janitor.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	machines := filepath.Join(dir, "machines")
	if err := j.Remove(machines); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(machines, 0o755); err != nil {
		t.Fatal(err)
	}
	n, err := network.New(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Namespace(ctx, "windows"); err != nil {
		t.Fatal(err)
	}
	rebooted := owned(ctx, t, linuxhost.Options{Name: "rebooted", Network: n, Janitor: j, Dir: machines})
	frozen := owned(ctx, t, linuxhost.Options{Name: "frozen", Network: n, Janitor: j, Dir: machines})
	if err := rebooted.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Cut(ctx, rebooted.Address()), frozen.Freeze()); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nnetwork %s %s %s\n", n.ID(), lock(t, rebooted), lock(t, frozen))
	select {}
}

func owned(ctx context.Context, t *testing.T, o linuxhost.Options) *linuxhost.Machine {
	t.Helper()
	m, err := linuxhost.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// leftovers lists all on this machine whose name has the id of a network in it.
func leftovers(t *testing.T, id string) []string {
	t.Helper()
	var left []string
	for _, pattern := range []string{
		"/sys/class/net/*" + id + "*", "/sys/fs/cgroup/*" + id + "*", "/sys/fs/cgroup/*/*" + id + "*",
		"/var/run/netns/*" + id + "*", "/run/systemd/nspawn/propagate/*" + id + "*",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, matches...)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if command, err := os.ReadFile(file); err == nil && strings.Contains(string(command), id) {
			left = append(left, "process "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	tables, err := osexec.Command("nft", "list", "tables").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(tables)) {
		if strings.Contains(line, id) {
			left = append(left, strings.TrimSpace(line))
		}
	}
	return left
}
