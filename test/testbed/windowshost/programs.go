package windowshost

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/command"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// programs runs the commands of shells: under Wine, or natively what stands in for
// PowerShell.
type programs struct{ host *Host }

// Run starts a command line.
func (p programs) Run(shell wsman.Shell, line string) (wsman.Program, error) {
	if command.IsPowerShell(line) {
		return p.host.runPowerShell(line), nil
	}
	if !shell.Direct {
		line = `C:\windows\system32\cmd.exe /C "` + line + `"`
	}
	dir := shell.Dir
	if dir == "" {
		dir = `C:\users\Public`
	}
	program, err := p.host.machine.Run(wine.Command{Line: line, Dir: dir, Env: shell.Environment})
	if err != nil {
		return nil, err
	}
	return program, nil
}

// stand is a program that runs as a goroutine.
type stand struct {
	stdin          *os.File
	stdout, stderr *os.File
	inner          []*os.File // the other ends
	kill           sync.Once
	done           chan struct{}
	code           uint32
}

// runPowerShell starts the stand-in for PowerShell.
func (h *Host) runPowerShell(line string) wsman.Program {
	shell := &command.Shell{Drive: h.machine, Running: func(windows string) (bool, error) {
		return h.repository.Running(context.Background(), windows)
	}}
	s := &stand{done: make(chan struct{})}
	var input, output, failure *os.File
	var errs [3]error
	input, s.stdin, errs[0] = os.Pipe()
	s.stdout, output, errs[1] = os.Pipe()
	s.stderr, failure, errs[2] = os.Pipe()
	s.inner = []*os.File{input, output, failure}
	go func() {
		defer close(s.done)
		s.code = 1
		if errors.Join(errs[:]...) == nil {
			s.code = shell.Run(line, input, output, failure)
		}
		s.close()
	}()
	return s
}

// close closes the ends that the stand-in has, which makes it fail if it still runs.
func (s *stand) close() {
	s.kill.Do(func() {
		for _, file := range s.inner {
			_ = file.Close() // nothing is lost: a pipe
		}
	})
}

func (s *stand) Stdin() io.WriteCloser { return s.stdin }

func (s *stand) Stdout() io.ReadCloser { return s.stdout }

func (s *stand) Stderr() io.ReadCloser { return s.stderr }

func (s *stand) Wait() (uint32, error) {
	<-s.done
	return s.code, nil
}

func (s *stand) Kill() { s.close() }
