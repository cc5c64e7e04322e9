package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a writer for progress that a build and its heartbeat may share.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func fill(_ context.Context, dir string) error {
	return os.WriteFile(filepath.Join(dir, "result"), []byte("42"), 0o644)
}

func TestEnsureBuildsOnce(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", filepath.Join(t.TempDir(), "new"))
	var progress lines
	dir, err := Ensure(t.Context(), "thing-1", &progress, fill)
	if err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(dir, "result")); err != nil || string(content) != "42" {
		t.Errorf("result = %q, %v", content, err)
	}
	if !strings.HasPrefix(progress.String(), "building thing-1 ...\nbuilt thing-1 in") {
		t.Errorf("progress = %q", progress.String())
	}
	again, err := Ensure(t.Context(), "thing-1", nil, func(context.Context, string) error {
		return errors.New("it was built a second time")
	})
	if err != nil || again != dir {
		t.Errorf("second Ensure = %q, %v; want %q", again, err, dir)
	}
}

func TestAFailedBuildLeavesNothing(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	broken := errors.New("no disk")
	_, err := Ensure(t.Context(), "thing", nil, func(ctx context.Context, dir string) error {
		return errors.Join(fill(ctx, dir), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("Ensure = %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Ensure(ctx, "thing", nil, func(ctx context.Context, dir string) error {
		cancel()
		return fill(ctx, dir)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Ensure of an interrupted build = %v", err)
	}
	if _, err := Ensure(t.Context(), "thing", nil, empty(fill)); err != nil {
		t.Errorf("the build after a failed one: %v", err)
	}
}

// empty fails if the directory it gets has something in it.
func empty(build func(context.Context, string) error) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			return fmt.Errorf("the directory is not empty: %v %w", entries, err)
		}
		return build(ctx, dir)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	heartbeat = 10 * time.Millisecond
	t.Cleanup(func() { heartbeat = 15 * time.Second })
	var progress lines
	_, err := Ensure(t.Context(), "slow", &progress, func(ctx context.Context, dir string) error {
		for !strings.Contains(progress.String(), "building slow ... 0s") {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			time.Sleep(time.Millisecond)
		}
		return fill(ctx, dir)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEnsureRefusesKeysThatAreNotFileNames(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	for _, key := range []string{"", ".", "..", ".hidden", "a/b", "/a"} {
		if _, err := Ensure(t.Context(), key, nil, fill); err == nil {
			t.Errorf("Ensure took the key %q", key)
		}
	}
}

// TestProcessesTakeTurns lets three processes ask for one thing at the same time,
// and kills a fourth in the middle of its build before.
func TestProcessesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	killed := builder(dir, "hang")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, ".shared.partial", "half")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first process does not build")
		}
	}
	var others []*exec.Cmd
	var outputs [3]lines
	for i := range outputs {
		cmd := builder(dir, "build")
		cmd.Stdout = &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		others = append(others, cmd)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	built := 0
	for i, cmd := range others {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, outputs[i].String())
		}
		built += strings.Count(outputs[i].String(), "built shared in")
	}
	if built != 1 {
		t.Errorf("it was built %d times, want once", built)
	}
	if _, err := os.Stat(filepath.Join(dir, "shared", "half")); err == nil {
		t.Error("something of the killed build is in the result")
	}
}

func builder(dir, mode string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBuilder$")
	cmd.Env = append(os.Environ(), "ISTHMUS_CACHE="+dir, "CACHE_BUILDER="+mode)
	return cmd
}

// TestBuilder is a process that TestProcessesTakeTurns starts; by itself it has nothing to do.
func TestBuilder(t *testing.T) {
	mode := os.Getenv("CACHE_BUILDER")
	if mode == "" {
		return // a helper process, and nothing when TestProcessesTakeTurns does not start it
	}
	_, err := Ensure(t.Context(), "shared", os.Stdout, empty(func(ctx context.Context, dir string) error {
		if mode == "hang" {
			if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil {
				return err
			}
			select {}
		}
		return fill(ctx, dir)
	}))
	if err != nil {
		t.Fatal(err)
	}
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, func() { t.Error("a free lock was busy") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("lock = %v, want that it was canceled", err)
	}
	unlock()
	again, err := lock(t.Context(), path, func() { t.Error("the lock was not given back") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestPackages(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI runs on Debian")
		}
		t.Skip("this machine is not Debian.")
	}
	if err := Packages(t.Context(), nil, "dpkg", "coreutils"); err != nil {
		t.Errorf("packages that are always there: %v", err)
	}
	missing, err := notInstalled(t.Context(), []string{"dpkg", "isthmus-no-such-package"})
	if err != nil || len(missing) != 1 || missing[0] != "isthmus-no-such-package" {
		t.Errorf("notInstalled = %v, %v", missing, err)
	}
}
