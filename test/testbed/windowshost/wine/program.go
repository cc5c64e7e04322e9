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

// Run starts a command.
func (m *Machine) Run(c Command) (*Program, error) {
	if err := m.on(); err != nil {
		return nil, fmt.Errorf("run a command: %w", err)
	}
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
