package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// Things is how many things are managed on a host.
const Things = 4

// Outcome of one pass over all hosts.
type Outcome struct {
	Wall time.Duration
	usage.Usage
	Changed, Unchanged int // things, on all hosts
}

// Peer is a tool that brings hosts into their declared state.
type Peer interface {
	// Name of the tool, and its version.
	Name() string
	Version() string
	// Prepare installs the tool and writes what it reads.
	Prepare(ctx context.Context, bed *target.Bed) error
	// Pass runs the tool once over all hosts.
	Pass(ctx context.Context) (Outcome, error)
	// Rest ends what the tool has left running, such as shared connections.
	Rest(ctx context.Context) error
}

// program is a tool that is run once for each pass.
type program struct {
	dir     string
	argv    []string
	env     []string
	version string
	passes  int
}

// run runs the tool in its directory. What it says goes to a log, which is what it returns.
func (p *program) run(ctx context.Context) (Outcome, []byte, error) {
	p.passes++
	log := filepath.Join(p.dir, fmt.Sprintf("pass-%d.log", p.passes))
	file, err := os.Create(log)
	if err != nil {
		return Outcome{}, nil, err
	}
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, file, file
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C.UTF-8"}, p.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	err = cmd.Run()
	outcome := Outcome{Wall: time.Since(began)}
	if cmd.ProcessState != nil {
		outcome.Usage = usage.Of(cmd)
	}
	output, readErr := os.ReadFile(log)
	err = errors.Join(err, file.Close(), readErr)
	if err != nil {
		return outcome, output, fmt.Errorf("%s: %w\n%s", filepath.Base(p.argv[0]), err, output[max(0, len(output)-4096):])
	}
	return outcome, output, nil
}

// installed is the version of a Debian package.
func installed(ctx context.Context, name string) (string, error) {
	version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		return "", fmt.Errorf("ask for the version of %s: %w", name, err)
	}
	return string(version), nil
}
