package node_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledOwner runs this test binary again as the owner of a node that runs a
// Pod, and kills it with SIGKILL.
func TestKilledOwner(t *testing.T) {
	needRoot(t)
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$", "-test.v")
	owner.Env = append(os.Environ(), "NODE_OWNER=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	owner.Stderr = os.Stderr
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	var id, dir string
	for id == "" && said.Scan() {
		_, _ = fmt.Sscanf(said.Text(), "owns %s %s", &id, &dir)
	}
	if id == "" {
		t.Fatalf("the owner has failed: %v", owner.Wait())
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(dir)) })
	if found := belongings(t, id, dir); len(found) < 20 {
		t.Errorf("the owner has made %v, which is too little for this test to mean anything", found)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	start := time.Now()
	for {
		left := belongings(t, id, dir)
		if len(left) == 0 {
			t.Logf("nothing is left %s after the owner was killed", time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > 45*time.Second {
			t.Fatalf("left behind: %s", strings.Join(left, "\n"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestOwner is the owner that TestKilledOwner starts; by itself it has nothing to do.
func TestOwner(t *testing.T) {
	if os.Getenv("NODE_OWNER") == "" {
		return // a helper process, and nothing when TestKilledOwner does not start it
	}
	b := newBed(t)
	b.start(t, "orphan", 5)
	b.pod(t, "stubborn", "orphan", `trap "" TERM; while :; do sleep 1; done`)
	fmt.Printf("\nowns %s %s\n", b.network.ID(), b.dir)
	select {}
}

// belongings lists what is on this machine because of the test bed whose network
// has the given id and whose files are in dir. A process of a Pod is found by the
// control group that it is in.
func belongings(t *testing.T, id, dir string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		"/sys/class/net/*" + id + "*", "/sys/fs/cgroup/*" + id + "*", "/sys/fs/cgroup/*/*" + id + "*",
		dir + "/*-state", dir + "/orphan",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		command, _ := os.ReadFile(process + "/cmdline")
		groups, _ := os.ReadFile(process + "/cgroup")
		where, _ := os.Readlink(process + "/cwd")
		if all := string(command) + string(groups) + where; strings.Contains(all, id) || strings.Contains(all, dir) {
			found = append(found, "process "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}
