// Package e2e asserts the story of test/story on a real test bed: control
// plane, node, Linux host, Windows host, and the operator under its own role.
package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-dev/isthmus/test/story"
)

// TestStory is one test: its steps build on each other.
func TestStory(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("the story needs root: it boots machines on a bridge")
		}
		t.Skip("the story needs root: it boots machines on a bridge")
	}
	bed, err := story.Start(t.Context(), testLog{t})
	if bed != nil {
		t.Cleanup(func() { closeBed(t, bed) })
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range story.Steps() {
		if !t.Run(step.Name, func(t *testing.T) {
			if err := step.Run(t.Context(), bed, testLog{t}); err != nil {
				t.Fatal(err)
			}
		}) {
			break
		}
	}
	if t.Failed() {
		showLogs(t, bed)
		showObjects(t, bed)
	}
	t.Run("secrets", func(t *testing.T) { noSecretInLogs(t, bed) })
}

// noSecretInLogs greps what the operator printed for the credentials of this run.
func noSecretInLogs(t *testing.T, bed *story.Bed) {
	for _, log := range bed.Operator.Logs() {
		content, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range bed.Secrets() {
			if bytes.Contains(content, secret) {
				t.Errorf("%s holds a credential", filepath.Base(log))
			}
		}
	}
}

// closeBed ends the bed and looks for what it may have left on this machine.
func closeBed(t *testing.T, bed *story.Bed) {
	dir, bridge := bed.Dir(), bed.Bridge()
	if err := bed.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left behind: %s", dir)
	}
	if _, err := os.Stat("/sys/class/net/" + bridge); bridge != "" && !os.IsNotExist(err) {
		t.Errorf("left behind: bridge %s", bridge)
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
	if strings.Contains(string(processes), dir) {
		t.Errorf("left behind: processes that name %s", dir)
	}
}

func showLogs(t *testing.T, bed *story.Bed) {
	if bed.Operator == nil {
		return
	}
	for _, log := range bed.Operator.Logs() {
		content, err := os.ReadFile(log)
		if err != nil {
			t.Log(err)
			continue
		}
		lines := slices.DeleteFunc(strings.Split(string(content), "\n"), func(line string) bool {
			return strings.Contains(line, `"msg":"Starting `)
		})
		t.Logf("%s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}

// showObjects prints what a user would look at to find out what is wrong.
func showObjects(t *testing.T, bed *story.Bed) {
	if bed.ControlPlane == nil {
		return
	}
	for _, args := range [][]string{
		{"get", "all,hybridapplications,externalservices,hosts", "--all-namespaces"},
		{"get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"},
		{"get", "hybridapplications,externalservices,hosts", "--all-namespaces", "--output=yaml"},
	} {
		out, err := bed.Kubectl(context.WithoutCancel(t.Context()), args...)
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// testLog writes the teller's lines to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
