package janitor

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCloseUndoesBackwards(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(tree, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	j, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	sleeper := start(t)
	if err := j.Remove(tree); err != nil {
		t.Fatal(err)
	}
	if err := j.Process(sleeper.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tree); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
	if state := sleeper.Wait(); state == nil || !strings.Contains(state.Error(), "terminated") {
		t.Errorf("the process ended with %v, want a termination", state)
	}
	if err := j.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := j.Remove(tree); err == nil {
		t.Error("a closed janitor took another line")
	}
}

func TestAnotherProcessWithTheSamePIDIsLeftAlone(t *testing.T) {
	j, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sleeper := start(t)
	if err := j.record("process", strconv.Itoa(sleeper.Process.Pid), "1"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process was ended: %v", err)
	}
}

func TestRecordRefusesWhatTheJournalCannotHold(t *testing.T) {
	j, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close() //nolint:errcheck // nothing was recorded
	for _, path := range []string{"", "a\tb", "a\nb"} {
		if err := j.Remove(path); err == nil {
			t.Errorf("Remove(%q) was taken", path)
		}
	}
}

// TestKilledOwner runs this test binary again as an owner and kills it with SIGKILL.
func TestKilledOwner(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$")
	owner.Env = append(os.Environ(), "JANITOR_OWNER="+dir, "JANITOR_TREE="+tree)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "child ")))
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, stat := os.Stat(tree)
		if os.IsNotExist(stat) && !running(child) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 s after the owner was killed: tree %v, child running %v", stat, running(child))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestOwner is the owner that TestKilledOwner starts; by itself it has nothing to do.
func TestOwner(t *testing.T) {
	dir := os.Getenv("JANITOR_OWNER")
	if dir == "" {
		return // a helper process, and nothing when TestKilledOwner does not start it
	}
	j, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	tree := os.Getenv("JANITOR_TREE")
	if err := j.Remove(tree); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	child := start(t)
	if err := j.Process(child.Process.Pid); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("child %d\n", child.Process.Pid)
	select {}
}

func start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
