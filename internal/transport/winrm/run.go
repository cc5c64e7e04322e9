package winrm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	defaultOutput = 256 << 10
	// signalTime bounds the word of farewell to a command that has ended.
	signalTime = 5 * time.Second
	// maxCmdLine and maxProcessLine are the longest lines, in UTF-16 units, of
	// cmd.exe and of CreateProcess.
	maxCmdLine     = 8191
	maxProcessLine = 32766
)

// Request is a command. The host joins Command and Args with spaces and gives
// the line to cmd.exe; whoever builds them quotes them.
type Request struct {
	Command string
	Args    []string
	// Stdin is read to its end and must not block; nil: the command's standard
	// input stays open and empty.
	Stdin io.Reader
	// MaxStdout and MaxStderr bound what is kept: the first and the last half; 0: 256 KiB.
	MaxStdout, MaxStderr int
	// SkipCmdShell asks the host to start the program without cmd.exe. Windows
	// Server 2012 R2 and later pass over it (MS-WSMV, note 117).
	SkipCmdShell bool
}

// Result is what a command printed and how it ended. A code other than zero is
// a result and not an error.
type Result struct {
	ExitCode       uint32
	Stdout, Stderr []byte
	Truncated      bool // the middle of Stdout or Stderr was dropped
}

// Run carries out one command in a remote shell. A LostError or a Fault after
// the command was taken leaves open what it has done; its shell, and the
// command if it still runs, are removed from the host.
func (c *Client) Run(ctx context.Context, r Request) (Result, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer done()
	if err := carriable(append([]string{r.Command}, r.Args...)...); err != nil {
		return Result{}, fmt.Errorf("run a command: %w", err)
	}
	if err := fits(r); err != nil {
		return Result{}, err
	}
	id := strings.ToUpper(newID())
	s, err := c.startSomewhere(ctx, id, r)
	if err != nil {
		return Result{}, fmt.Errorf("run a command: %w", err)
	}
	out, err := c.converse(ctx, s, id, r)
	if err != nil {
		c.discard(s)
		return Result{}, fmt.Errorf("run a command: %w", err)
	}
	c.farewell(ctx, s, id)
	return out.result(), nil
}

// fits refuses what cmd.exe, or CreateProcess, would cut off or refuse in words.
func fits(r Request) error {
	limit := maxCmdLine
	if r.SkipCmdShell {
		limit = maxProcessLine
	}
	line := strings.Join(append([]string{r.Command}, r.Args...), " ")
	if n := len(utf16.Encode([]rune(line))); n > limit {
		return fmt.Errorf("run a command: the command line has %d characters, and the host takes %d: pass the rest by standard input", n, limit)
	}
	return nil
}

// startSomewhere starts a command in a shell. A shell that the host has given
// up meanwhile is replaced, once.
func (c *Client) startSomewhere(ctx context.Context, id string, r Request) (*shell, error) {
	for attempt := 0; ; attempt++ {
		s, err := c.takeShell(ctx)
		if err != nil {
			return nil, err
		}
		s.used++
		err = c.start(ctx, s, id, r)
		if err == nil {
			return s, nil
		}
		c.discard(s)
		if !lostShell(err) || attempt > 0 {
			return nil, err
		}
		if err := c.deleteShells(ctx); err != nil {
			return nil, err
		}
	}
}

// converse feeds a command and collects what it prints until it has ended.
func (c *Client) converse(ctx context.Context, s *shell, id string, r Request) (*output, error) {
	out := newOutput(r)
	ended, err := c.feed(ctx, s, id, r.Stdin, out)
	for err == nil && !ended {
		ended, err = c.receive(ctx, s, id, 0, out)
	}
	return out, err
}

// farewell ends a command that is over, as the host demands, and keeps its
// shell. What the command did is known by now, so nothing that happens here is
// an error of it.
func (c *Client) farewell(ctx context.Context, s *shell, id string) {
	ctx, cancel := context.WithTimeout(ctx, signalTime)
	defer cancel()
	var fault *Fault
	if err := c.signal(ctx, s, id); err != nil && !errors.As(err, &fault) {
		c.discard(s)
		return
	}
	c.giveBack(s)
}
