package windowshost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
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
		return p.host.standIn(p.host.powerShell().Run, line), nil
	}
	if command.IsCurl(line) && p.host.hasCurl() {
		return p.host.standIn(p.host.curl, line), nil
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

// powerShell is the stand-in for PowerShell.
func (h *Host) powerShell() *command.Shell {
	return &command.Shell{Drive: drive{h}, Full: h.full.Load(), Running: func(windows string) (bool, error) {
		return h.repository.Running(context.Background(), windows)
	}}
}

// drive tells links from what is not there.
type drive struct{ host *Host }

func (d drive) Path(windows string) (string, error) {
	path, err := d.host.machine.Path(windows)
	if err != nil && strings.Contains(err.Error(), "through a link") {
		return "", fmt.Errorf("%w: %s", command.ErrLink, windows)
	}
	return path, err
}

// curlPath is where Windows has curl. A host has what stands in for it while there is a file.
const curlPath = `C:\windows\system32\curl.exe`

func (h *Host) hasCurl() bool {
	path, err := h.machine.Path(curlPath)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

func (h *Host) curl(_ string, stdin io.Reader, stdout, stderr io.Writer) uint32 {
	return (&command.Curl{Drive: drive{h}, Dial: h.dial}).Run(stdin, stdout, stderr)
}

// standIn starts what stands in for a program.
func (h *Host) standIn(run func(line string, stdin io.Reader, stdout, stderr io.Writer) uint32, line string) wsman.Program {
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
			s.code = run(line, input, output, failure)
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
