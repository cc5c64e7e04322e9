package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

// join moves the shell into the groups that are named by the first $1 arguments
// after $1, and then becomes the program that the other arguments name.
const join = `n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1/cgroup.procs" || exit 125; shift; n=$((n-1)); done; exec "$@"`

// Group is one group in each of one or more hierarchies.
type Group struct {
	dirs []string
}

// New makes the group name in every hierarchy of this machine.
func New(j *janitor.Janitor, name string) (*Group, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	return create(j, name, all)
}

// NewTracker makes the group name in one hierarchy only, which is enough to find
// and end all that was started in it.
func NewTracker(j *janitor.Janitor, name string) (*Group, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for _, h := range all {
		if h.unified || h.named {
			return create(j, name, []hierarchy{h})
		}
	}
	return create(j, name, all[:1])
}

func create(j *janitor.Janitor, name string, in []hierarchy) (*Group, error) {
	g := &Group{}
	for _, h := range in {
		dir := filepath.Join(h.mount, name)
		if _, err := os.Stat(dir); err == nil {
			return nil, fmt.Errorf("control group %s is somebody else's", dir)
		}
		if err := j.Cgroup(dir); err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make control group: %w", err)
		}
		if err := inheritCPUs(h, dir); err != nil {
			return nil, err
		}
		g.dirs = append(g.dirs, dir)
	}
	return g, nil
}

// inheritCPUs fills in what a legacy cpuset group needs before it takes a process.
func inheritCPUs(h hierarchy, dir string) error {
	if h.unified {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(h.mount, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), value, 0o644)
		}
		if err != nil {
			return fmt.Errorf("hand down %s: %w", file, err)
		}
	}
	return nil
}

// Argv is a command that becomes argv, under the same PID, inside the group.
func (g *Group) Argv(argv ...string) []string { return joinArgv(g.dirs, argv) }

// SameAs is a command that becomes argv, under the same PID, in every group that
// process pid is a member of. A shell that entered a machine's namespaces by
// another way would stay in the groups of its caller, and what it starts with it.
func SameAs(pid int, argv ...string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	memberships, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("read control groups of process %d: %w", pid, err)
	}
	var dirs []string
	for line := range strings.Lines(string(memberships)) {
		// "4:memory:/path"; the unified hierarchy is "0::/path" (cgroups(7)).
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, h := range all {
			if h.is(parts[1]) {
				dirs = append(dirs, filepath.Join(h.mount, parts[2]))
			}
		}
	}
	return joinArgv(dirs, argv), nil
}

func joinArgv(dirs, argv []string) []string {
	out := []string{"/bin/sh", "-c", join, "cgroup", strconv.Itoa(len(dirs))}
	return append(append(out, dirs...), argv...)
}

// Signal sends sig to every process in the group and the groups below the given
// path, which is relative to the group; "" is all of it.
func (g *Group) Signal(sig syscall.Signal, below string) error {
	pids, err := g.pids(below)
	for _, pid := range pids {
		if kill := syscall.Kill(pid, sig); kill != nil && !errors.Is(kill, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("signal process %d: %w", pid, kill))
		}
	}
	return err
}

// Remove kills what still runs in the group and removes its directories.
func (g *Group) Remove() error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := g.Signal(syscall.SIGKILL, "")
		for _, dir := range g.dirs {
			err = errors.Join(err, removeDirs(dir))
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// The kernel empties a group a moment after its last process was killed.
		time.Sleep(10 * time.Millisecond)
	}
}

func (g *Group) pids(below string) ([]int, error) {
	var pids []int
	for _, dir := range g.dirs {
		err := filepath.WalkDir(filepath.Join(dir, below), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || entry.Name() != "cgroup.procs" {
				return err
			}
			content, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
				return nil
			}
			for field := range bytes.FieldsSeq(content) {
				if pid, err := strconv.Atoi(string(field)); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return err
		})
		if err != nil {
			return pids, fmt.Errorf("list processes of control group: %w", err)
		}
	}
	return pids, nil
}

// removeDirs removes the directories at and below dir, deepest first. The files
// in them are the kernel's and go with them.
func removeDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeDirs(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("remove control group %s: %w", dir, err)
	}
	return nil
}
