package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// State of a host's things that differs if anything was done to them once more.
type State string

// Wipe makes all hosts as new: the things and what sides remember are gone.
func (b *Bed) Wipe() error {
	for _, h := range b.Hosts {
		if err := h.wipe(); err != nil {
			return fmt.Errorf("wipe %s: %w", h.Name, err)
		}
	}
	return nil
}

func (h *Host) wipe() error {
	if err := h.endService(); err != nil {
		return err
	}
	if err := os.RemoveAll(h.Dir); err != nil {
		return err
	}
	return os.MkdirAll(h.path("etc"), 0o755)
}

// endService ends the service's process, if the recorded PID is still its own.
func (h *Host) endService() error {
	pid, err := h.servicePID()
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the service: %w", err)
	}
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if pid, err := h.servicePID(); err != nil || pid == 0 {
			return err
		}
	}
	return fmt.Errorf("the service (PID %d) does not end", pid)
}

// servicePID is the recorded PID if that process is the service; else 0.
func (h *Host) servicePID() (int, error) {
	text, err := os.ReadFile(h.path("run/service.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the PID of the service: %w", err)
	}
	// A process that has ended, and was not waited for, has no command line.
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || string(command) != "sleep\x00"+runs+"\x00" {
		return 0, nil
	}
	return pid, nil
}

// VerifyNew says what is on the hosts although nothing should be.
func (b *Bed) VerifyNew() error {
	for _, h := range b.Hosts {
		left, err := filepath.Glob(h.path("*/*"))
		if err != nil || len(left) > 0 {
			return errors.Join(err, fmt.Errorf("%s is not new: there is %v", h.Name, left))
		}
	}
	return nil
}

// Verify says what is not as declared, or in which state all is.
func (b *Bed) Verify() (State, error) {
	var state strings.Builder
	for _, h := range b.Hosts {
		if err := h.verify(&state); err != nil {
			return "", fmt.Errorf("%s is not as declared: %w", h.Name, err)
		}
	}
	return State(state.String()), nil
}

func (h *Host) verify(state *strings.Builder) error {
	for _, file := range h.Files() {
		if err := verifyFile(file, state); err != nil {
			return err
		}
	}
	if err := verifyFile(File{Path: h.path("component/release"), Content: release + "\n"}, state); err != nil {
		return err
	}
	pid, err := h.awaitService()
	if err != nil {
		return err
	}
	fmt.Fprintf(state, "%d\n", pid)
	return nil
}

// awaitService gives a process that has just been started a moment to become the service.
func (h *Host) awaitService() (int, error) {
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		pid, err := h.servicePID()
		if err != nil || pid != 0 {
			return pid, err
		}
		if time.Now().After(limit) {
			return 0, errors.New("the service does not run")
		}
	}
}

func verifyFile(file File, state *strings.Builder) error {
	content, err := os.ReadFile(file.Path)
	if err != nil {
		return err
	}
	if string(content) != file.Content {
		return fmt.Errorf("%s has other content", file.Path)
	}
	info, err := os.Lstat(file.Path)
	if err != nil {
		return err
	}
	if mode := fmt.Sprintf("%04o", info.Mode().Perm()); file.Mode != "" && mode != file.Mode {
		return fmt.Errorf("%s has mode %s", file.Path, mode)
	}
	inode := uint64(0)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	fmt.Fprintf(state, "%s %d %d\n", file.Path, inode, info.ModTime().UnixNano())
	return nil
}
