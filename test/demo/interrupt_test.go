package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterruptLeavesNothing sends Ctrl-C's signal to the demo, once while it
// starts its machines and once in the middle of its story.
func TestInterruptLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("the demo needs root: it boots machines on a bridge")
		}
		t.Skip("the demo needs root: it boots machines on a bridge")
	}
	program := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	for name, line := range map[string]string{"starting": "control plane", "telling": "a wrong password was tried once"} {
		t.Run(name, func(t *testing.T) { interruptAt(t, program, line) })
	}
}

func interruptAt(t *testing.T, program, line string) {
	// Everything that the demo makes is in directories below this one.
	temporary, err := os.MkdirTemp("", "demo-") // short: there will be Unix sockets below it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	demo := exec.Command(program)
	demo.Env = append(os.Environ(), "TMPDIR="+temporary, "DEMO_EXIT=1")
	demo.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(4*time.Minute, func() { _ = demo.Process.Kill() })
	defer timer.Stop()
	interrupted := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		if !interrupted && strings.Contains(lines.Text(), line) {
			interrupted = true
			if err := demo.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := demo.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("the demo ended with %v, want exit status 130", err)
	}
	if !interrupted {
		t.Fatalf("the demo never said %q", line)
	}
	nothingLeft(t, temporary)
}

// nothingLeft looks for files, mounts and processes of the demo.
func nothingLeft(t *testing.T, dir string) {
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		t.Errorf("left behind: mounts below %s", dir)
	}
	processes, err := exec.Command("ps", "-eo", "args").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(processes)) {
		if strings.Contains(line, dir) {
			t.Errorf("left behind: process %s", line)
		}
	}
}
