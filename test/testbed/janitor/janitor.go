package janitor

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// undo is the program that waits for the owner's end and reads the journal backwards.
//
//go:embed undo.sh
var undo string

// Janitor records what to undo and undoes it at Close or when its process ends.
type Janitor struct {
	mu      sync.Mutex
	journal *os.File
	pipe    *os.File
	shell   *exec.Cmd
	closed  bool
}

// New starts a janitor whose journal and log live in dir, which must exist.
// The directory itself is not removed unless it is recorded with Remove.
func New(dir string) (*Janitor, error) {
	journal, err := os.OpenFile(filepath.Join(dir, "janitor.journal"), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), journal.Close())
	}
	defer read.Close() //nolint:errcheck // the shell has its own copy of the read end
	shell := exec.Command("/bin/sh", "-c", undo, "janitor", journal.Name(), filepath.Join(dir, "janitor.log"))
	shell.Stdin = read
	shell.Dir = "/"
	// A session of its own: Ctrl-C in the owner's terminal must not end it.
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shell.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start janitor: %w", err), write.Close(), journal.Close())
	}
	return &Janitor{journal: journal, pipe: write, shell: shell}, nil
}

// Process records a started process: TERM, ten seconds of grace, then KILL.
// A PID that has been given to another process since then is left alone.
func (j *Janitor) Process(pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	return j.record("process", fmt.Sprint(pid), start)
}

// Kill records a started process that is to end at once, without grace.
func (j *Janitor) Kill(pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	return j.record("kill", fmt.Sprint(pid), start)
}

// Mount records a mount point to unmount, with all that is mounted below it.
func (j *Janitor) Mount(path string) error { return j.record("mount", path) }

// Link records a network interface to delete.
func (j *Janitor) Link(name string) error { return j.record("link", name) }

// Namespace records a named network namespace; whatever still runs in it is ended first.
func (j *Janitor) Namespace(name string) error { return j.record("netns", name) }

// Table records an nftables table to delete, such as "ip isthmus0".
func (j *Janitor) Table(family, name string) error { return j.record("table", family, name) }

// Cgroup records a control group directory, absolute, to remove with its children.
func (j *Janitor) Cgroup(path string) error { return j.record("cgroup", path) }

// Remove records a file or directory tree to remove, after all that was recorded later.
func (j *Janitor) Remove(path string) error { return j.record("remove", path) }

// Close undoes everything and waits for it. It returns what could not be undone.
func (j *Janitor) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	err := errors.Join(j.journal.Close(), j.pipe.Close())
	if wait := j.shell.Wait(); wait != nil {
		err = errors.Join(err, fmt.Errorf("undo the test bed (see %s): %w", filepath.Dir(j.journal.Name()), wait))
	}
	return err
}

func (j *Janitor) record(words ...string) error {
	for _, word := range words {
		if word == "" || strings.ContainsAny(word, "\t\n") {
			return fmt.Errorf("record %q: empty or with a tab or line break", words)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errors.New("the janitor has ended")
	}
	_, err := fmt.Fprintln(j.journal, strings.Join(words, "\t"))
	return err
}

// startTime is field 22 of /proc/PID/stat (proc(5)), in clock ticks since boot:
// with the PID it names one process for ever.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("read start time of process %d: %w", pid, err)
	}
	// The command name, field 2, is in parentheses and may hold blanks.
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", fmt.Errorf("read start time of process %d: short stat line", pid)
	}
	return fields[19], nil
}
