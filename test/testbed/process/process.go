package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

// gate is what a child runs until its PID is in the journal: exec keeps the PID
// and the start time that were recorded.
const gate = `read -r go && exec "$@" </dev/null`

// tailBytes is how much of a log is shown in an error.
const tailBytes = 2048

// Process is a running program.
type Process struct {
	name    string
	log     string
	cmd     *exec.Cmd
	exited  chan struct{}
	state   error // what Wait returned; read only after exited is closed
	stopped sync.Once
}

// Start runs argv in dir, with env added to this process's own environment. What
// the program writes goes to the file NAME.log in dir.
func Start(j *janitor.Janitor, dir, name string, env []string, argv ...string) (*Process, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close() //nolint:errcheck // the child has its own copy
	cmd := exec.Command("/bin/sh", append([]string{"-c", gate, name, path}, argv[1:]...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), env...)
	// A group of its own: Ctrl-C in the owner's terminal is for the owner to act on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	open, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, log: log.Name(), cmd: cmd, exited: make(chan struct{})}
	err = j.Process(cmd.Process.Pid)
	if err == nil {
		_, err = io.WriteString(open, "go\n")
	}
	err = errors.Join(err, open.Close())
	go p.wait()
	if err != nil {
		<-p.exited
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *Process) wait() {
	p.state = p.cmd.Wait()
	close(p.exited)
}

// Exited is closed when the program has ended, for whatever reason.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// PID is the process ID of the program, and of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the path of the file that holds what the program has written.
func (p *Process) Log() string { return p.log }

// Err says why a program has ended, with the end of its log. It is nil while the program runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s ended (%s); the end of %s:\n%s", p.name, p.cmd.ProcessState, p.log, p.tail())
	default:
		return nil
	}
}

// Stop asks the program to end and waits for it. When ctx ends first, the program
// and whatever it left in its process group is killed.
func (p *Process) Stop(ctx context.Context) error {
	p.stopped.Do(func() {
		if p.Err() == nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
	})
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
	}
	// The group is there as long as its leader has not been waited for, so its
	// number cannot be somebody else's.
	if p.Err() == nil {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
	select {
	case <-p.exited:
		return fmt.Errorf("%s was killed: it had not ended in time: %w", p.name, ctx.Err())
	case <-time.After(5 * time.Second):
		return fmt.Errorf("%s (PID %d) does not end", p.name, p.PID())
	}
}

// tail is the end of the log, from the start of a line.
func (p *Process) tail() string {
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer file.Close() //nolint:errcheck // only read
	cut := false
	if info, err := file.Stat(); err == nil && info.Size() > tailBytes {
		_, err = file.Seek(-tailBytes, io.SeekEnd)
		cut = err == nil
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	text := string(content)
	if _, after, found := strings.Cut(text, "\n"); cut && found {
		text = after
	}
	return strings.TrimSpace(text)
}
