package wine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is what a remote shell runs.
type Command struct {
	// Line is the command line as CreateProcess takes it.
	Line string
	// Dir is the working directory on the C: drive.
	Dir string
	// Env is added to the machine's environment: name, value, name, value.
	Env []string
}

// Program is a running command.
type Program struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *os.File
	stderr *os.File
	result string
}

// StartError is a command line that could not be run; Code is the Win32 code.
type StartError struct{ Code uint32 }

func (e *StartError) Error() string {
	return fmt.Sprintf("the command could not be started: %d", e.Code)
}

// attempts to run a command: one in a few thousand programs does not begin under Wine
// on a busy machine; on Windows they do.
const attempts = 5

// Run starts a command, and returns when it has begun.
func (m *Machine) Run(c Command) (*Program, error) {
	for attempt := 1; ; attempt++ {
		if err := m.on(); err != nil {
			return nil, fmt.Errorf("run a command: %w", err)
		}
		p, err := m.launch(c)
		if err != nil {
			return nil, err
		}
		if p.begun() || attempt == attempts {
			return p, nil
		}
		_, _ = p.Wait()
		if err := errors.Join(p.stdout.Close(), p.stderr.Close()); err != nil {
			return nil, fmt.Errorf("run a command: %w", err)
		}
	}
}

func (m *Machine) launch(c Command) (*Program, error) {
	name := `C:\windows\temp\winrs-` + rand.Text()
	result, err := m.Path(name)
	if err != nil {
		return nil, err
	}
	words := []string{`C:\windows\system32\winrshost.exe`, encode(name), encode(c.Dir), encode(c.Line)}
	for _, word := range c.Env {
		words = append(words, encode(word))
	}
	p := &Program{cmd: m.command(context.Background(), words...), result: result}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("run a command: %w", err)
	}
	// Not StdoutPipe: that one is closed by Wait, with whatever has not been read.
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("run a command: %w", err)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run a command: %w", err), outRead.Close(), outWrite.Close())
	}
	p.stdout, p.stderr = outRead, errRead
	p.cmd.Stdout, p.cmd.Stderr = outWrite, errWrite
	err = p.cmd.Start()
	err = errors.Join(err, outWrite.Close(), errWrite.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run a command: %w", err), outRead.Close(), errRead.Close())
	}
	if err := m.config.Janitor.Kill(p.cmd.Process.Pid); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// begun waits until the program that runs the command has begun; false if it ended before.
func (p *Program) begun() bool {
	for {
		ended := p.ended()
		if _, err := os.Stat(p.result); err == nil {
			return true
		}
		if ended {
			return false
		}
		time.Sleep(time.Millisecond)
	}
}

// ended leaves the process for Wait.
func (p *Program) ended() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// Stdin is what the command reads.
func (p *Program) Stdin() io.WriteCloser { return p.stdin }

// Stdout ends when the last process that has it ends.
func (p *Program) Stdout() io.ReadCloser { return p.stdout }

// Stderr is like Stdout.
func (p *Program) Stderr() io.ReadCloser { return p.stderr }

// Wait waits for the end of the command and returns its exit code.
func (p *Program) Wait() (uint32, error) {
	// What counts is the file; how winrshost itself ended is told only without one.
	ended := p.cmd.Wait()
	defer os.Remove(p.result) //nolint:errcheck // removed with the drive otherwise
	text, err := os.ReadFile(p.result)
	if err != nil || len(text) == 0 {
		return 0, fmt.Errorf("the command was ended: %w", errors.Join(ended, err))
	}
	failed := strings.TrimPrefix(string(text), "failed ")
	code, err := strconv.ParseUint(failed, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read the exit code: %w", err)
	}
	if failed != string(text) {
		return 0, &StartError{Code: uint32(code)}
	}
	return uint32(code), nil
}

// Kill ends the command and all that it has started. Wait must still be called.
func (p *Program) Kill() { _ = p.cmd.Process.Signal(syscall.SIGKILL) }
