package winrm

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	resourceCmd = nsShell + "/cmd"
	// A shell is deleted after so many commands: Windows does not give the
	// operations of a text shell back before (MS-WSMV, note 118).
	commandsPerShell = 50
	// idleTime is when the host removes a shell that nobody uses: the limit of
	// what an operator that died leaves behind.
	idleTime = 10 * time.Minute
	// busyTries and busyPause bound how long ERROR_BUSY is waited out.
	busyTries = 20
	busyPause = 100 * time.Millisecond
)

// shell is a remote shell (MS-WSMV): a place on the host in which one command
// at a time runs. The text of a command goes through cmd.exe.
type shell struct {
	id   string
	used int
}

type shellBody struct {
	XMLName xml.Name `xml:"rsp:Shell"`
	ID      string   `xml:"ShellId,attr"`
	Idle    string   `xml:"rsp:IdleTimeOut"`
	Input   string   `xml:"rsp:InputStreams"`
	Output  string   `xml:"rsp:OutputStreams"`
}

// takeShell takes an idle shell or opens one.
func (c *Client) takeShell(ctx context.Context) (*shell, error) {
	select {
	case c.shells <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a shell on %s: %w", c.config.Address, context.Cause(ctx))
	}
	if s := c.popShell(); s != nil {
		return s, nil
	}
	s, err := c.openShell(ctx)
	if err != nil {
		<-c.shells
		return nil, err
	}
	return s, nil
}

func (c *Client) popShell() *shell {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idleShells) == 0 {
		return nil
	}
	s := c.idleShells[len(c.idleShells)-1]
	c.idleShells = c.idleShells[:len(c.idleShells)-1]
	return s
}

// openShell opens a shell. Where the user has too many, those of ours that rest
// are deleted, one that is being deleted is waited for, and it is tried once more.
func (c *Client) openShell(ctx context.Context) (*shell, error) {
	s, err := c.createShell(ctx)
	if code := faultCode(err); code != codeShellQuota && code != codeOperationQuota {
		return s, err
	}
	if err := c.deleteShells(ctx); err != nil {
		return nil, err
	}
	c.awaitDeletion(ctx)
	return c.createShell(ctx)
}

// awaitDeletion waits, for a while, until the caller's shell is the only one: a
// shell that is being deleted holds its place until it is gone.
func (c *Client) awaitDeletion(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	select {
	case c.shells <- struct{}{}:
		<-c.shells
	case <-ctx.Done():
	}
}

// createShell asks for a shell under an id of our choice, so that it can be
// deleted even if the answer is lost. A host that chooses itself says so in the answer.
func (c *Client) createShell(ctx context.Context) (*shell, error) {
	id := strings.ToUpper(newID())
	body, err := c.send(ctx, "open a shell", message{
		action:   nsTransfer + "/Create",
		resource: resourceCmd,
		options:  map[string]string{"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": "65001"},
		body:     shellBody{ID: id, Idle: fmt.Sprintf("PT%.3fS", idleTime.Seconds()), Input: "stdin", Output: "stdout stderr"},
	})
	if err != nil {
		if perhapsDone(err) {
			c.deleteLate(&shell{id: id})
		}
		return nil, fmt.Errorf("open a shell: %w", err)
	}
	if given := body.at("Shell", "ShellId").value(); given != "" {
		id = given
	}
	for _, selector := range body.at("ResourceCreated", "ReferenceParameters", "SelectorSet").kids() {
		if selector.attr("Name") == "ShellId" {
			id = selector.value()
		}
	}
	return &shell{id: id}, nil
}

// perhapsDone says whether the host may have carried a request out, by the error
// of its answer: neither has it refused it, nor was it never sent.
func perhapsDone(err error) bool {
	var (
		fault       *Fault
		unreachable *transport.UnreachableError
		refused     *transport.CredentialsError
	)
	return err != nil && !errors.As(err, &fault) && !errors.As(err, &unreachable) && !errors.As(err, &refused)
}

// deleteLate deletes a shell that the host may be opening just now: it is looked
// for again a few times.
func (c *Client) deleteLate(s *shell) {
	c.inBackground(func(ctx context.Context) {
		for _, wait := range []time.Duration{0, 200 * time.Millisecond, time.Second, 2 * time.Second} {
			err := pause(ctx, wait)
			if err == nil {
				err = c.insist(ctx, "delete a shell", s.deletion())
			}
			if faultCode(err) == codeShellNotFound {
				continue
			}
			if err != nil {
				c.leave(s)
			}
			return
		}
	})
}

// maxLeft bounds the shells that are remembered because they could not be deleted.
// The host removes those that nobody uses after idleTime anyway.
const maxLeft = 32

// leave remembers a shell that could not be deleted, for when the host answers again.
func (c *Client) leave(s *shell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.leftShells) < maxLeft {
		c.leftShells = append(c.leftShells, s)
	}
}

// takeLeft forgets the shells that could not be deleted, and returns them.
func (c *Client) takeLeft() []*shell {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.leftShells
	c.leftShells = nil
	return left
}

// sweep deletes the shells that could not be deleted before. The host has just answered.
func (c *Client) sweep() {
	left := c.takeLeft()
	if len(left) == 0 {
		return
	}
	c.inBackground(func(ctx context.Context) {
		for _, s := range left {
			if c.deleteShell(ctx, s) != nil {
				c.leave(s)
			}
		}
	})
}

func (n *node) kids() []*node {
	if n == nil {
		return nil
	}
	return n.children
}

// giveBack keeps a shell whose command has ended, unless it has served enough.
func (c *Client) giveBack(s *shell) {
	if s.used >= commandsPerShell {
		c.discard(s)
		return
	}
	c.mu.Lock()
	c.idleShells = append(c.idleShells, s)
	c.mu.Unlock()
	<-c.shells
	c.sweep()
}

// discard deletes a shell, and with it the command that may still run in it,
// beside whatever the caller does next.
func (c *Client) discard(s *shell) {
	c.inBackground(func(ctx context.Context) {
		defer func() { <-c.shells }()
		if c.deleteShell(ctx, s) != nil {
			c.leave(s)
		}
	})
}

// inBackground does what is to be cleared away on the host, within closeTime.
// Close waits for it. A panic there is the error of the next request: a connection
// or a shell of the client may be taken for ever.
func (c *Client) inBackground(do func(ctx context.Context)) {
	c.background.Add(1)
	go func() {
		defer c.background.Done()
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		_, err := defect.Guard(func() (none struct{}, _ error) {
			do(ctx)
			return none, nil
		})
		if err != nil {
			_ = c.finish(err)
		}
	}()
}

func (s *shell) deletion() message {
	return message{action: nsTransfer + "/Delete", resource: resourceCmd, selectors: s.selector()}
}

// deleteShell deletes a shell.
func (c *Client) deleteShell(ctx context.Context, s *shell) error {
	err := c.insist(ctx, "delete a shell", s.deletion())
	if faultCode(err) == codeShellNotFound {
		return nil
	}
	return err
}

// insist sends what may be done twice, and is there to clear away, again and again
// until it is answered by a success or by a fault that says that there is nothing.
func (c *Client) insist(ctx context.Context, doing string, m message) error {
	for wait := 50 * time.Millisecond; ; wait *= 3 {
		once, cancel := context.WithTimeout(ctx, closeTime/3)
		_, err := c.send(once, doing, m)
		cancel()
		if err == nil || c.final.Load() != nil || slices.Contains([]uint32{codeShellNotFound, codeInvalidContext}, faultCode(err)) {
			return err
		}
		if pause(ctx, wait) != nil {
			return err
		}
	}
}

// deleteShells deletes the shells that rest, and those that could not be deleted before.
func (c *Client) deleteShells(ctx context.Context) error {
	unwanted := c.takeLeft()
	for s := c.popShell(); s != nil; s = c.popShell() {
		unwanted = append(unwanted, s)
	}
	var all error
	for _, s := range unwanted {
		if err := c.deleteShell(ctx, s); err != nil {
			c.leave(s)
			all = errors.Join(all, err)
		}
	}
	return all
}

func (s *shell) selector() map[string]string { return map[string]string{"ShellId": s.id} }

type commandLine struct {
	XMLName xml.Name `xml:"rsp:CommandLine"`
	ID      string   `xml:"CommandId,attr"`
	Command string   `xml:"rsp:Command"`
	Args    []string `xml:"rsp:Arguments"`
}

type sendBody struct {
	XMLName xml.Name `xml:"rsp:Send"`
	Stream  stream   `xml:"rsp:Stream"`
}

type stream struct {
	Name string `xml:"Name,attr"`
	ID   string `xml:"CommandId,attr"`
	End  string `xml:"End,attr,omitempty"`
	// Base64 needs no escaping, which would cost more than all the rest.
	Content []byte `xml:",innerxml"`
}

type receiveBody struct {
	XMLName xml.Name      `xml:"rsp:Receive"`
	Stream  desiredStream `xml:"rsp:DesiredStream"`
}

type desiredStream struct {
	ID    string `xml:"CommandId,attr"`
	Names string `xml:",chardata"`
}

type signalBody struct {
	XMLName xml.Name `xml:"rsp:Signal"`
	ID      string   `xml:"CommandId,attr"`
	Code    string   `xml:"rsp:Code"`
}

// start begins a command under an id of our choice, so that it can be ended
// even if the answer is lost.
func (c *Client) start(ctx context.Context, s *shell, id string, r Request) error {
	m := message{
		action:    nsShell + "/Command",
		resource:  resourceCmd,
		selectors: s.selector(),
		options:   map[string]string{"WINRS_CONSOLEMODE_STDIN": "FALSE", "WINRS_SKIP_CMD_SHELL": "FALSE"},
		body:      commandLine{ID: id, Command: r.Command, Args: r.Args},
	}
	if r.SkipCmdShell {
		m.options["WINRS_SKIP_CMD_SHELL"] = "TRUE"
	}
	_, err := c.patiently(ctx, "start a command", m)
	return err
}

// patiently sends a message again for as long as the host says that it is busy
// and did not take it.
func (c *Client) patiently(ctx context.Context, doing string, m message) (*node, error) {
	for try := 1; ; try++ {
		body, err := c.send(ctx, doing, m)
		if faultCode(err) != codeBusy || try == busyTries {
			return body, err
		}
		if err := pause(ctx, busyPause); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// signal ends a command; the host demands it after the last output, too.
func (c *Client) signal(ctx context.Context, s *shell, id string) error {
	_, err := c.send(ctx, "end a command", message{
		action: nsShell + "/Signal", resource: resourceCmd, selectors: s.selector(),
		body: signalBody{ID: id, Code: nsShell + "/signal/terminate"},
	})
	return err
}

// receive asks once for output. It says whether the command has ended.
func (c *Client) receive(ctx context.Context, s *shell, id string, timeout time.Duration, out *output) (bool, error) {
	body, err := c.send(ctx, "receive output", message{
		action: nsShell + "/Receive", resource: resourceCmd, selectors: s.selector(), timeout: timeout,
		body: receiveBody{Stream: desiredStream{ID: id, Names: "stdout stderr"}},
	})
	switch faultCode(err) {
	case codeOperationTimeout:
		out.busy = 0
		return false, nil
	case codeBusy:
		if out.busy++; out.busy < busyTries {
			return false, pause(ctx, busyPause)
		}
	}
	out.busy = 0
	if err != nil {
		return false, err
	}
	return out.take(body.child("ReceiveResponse"), id)
}

// take keeps the streams of an answer that belong to a command.
func (o *output) take(answer *node, id string) (bool, error) {
	done := false
	for _, part := range answer.kids() {
		if given := part.attr("CommandId"); given != "" && !strings.EqualFold(given, id) {
			continue
		}
		switch part.name {
		case "Stream":
			data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(part.text), ""))
			if err != nil {
				return false, fmt.Errorf("output of the command: %w", err)
			}
			o.write(part.attr("Name"), data)
		case "CommandState":
			if !strings.HasSuffix(part.attr("State"), "/CommandState/Done") {
				continue
			}
			if err := o.exit(part.child("ExitCode").value()); err != nil {
				return false, err
			}
			done = true
		}
	}
	return done, nil
}

// lostShell are the codes that say: this shell is of no more use, and the
// command was not taken.
func lostShell(err error) bool {
	return slices.Contains([]uint32{codeShellNotFound, codeShellQuota, codeOperationQuota}, faultCode(err))
}
