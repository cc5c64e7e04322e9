package winrm

import (
	"errors"
	"fmt"
	"strconv"
)

// output is what a command has printed so far.
type output struct {
	stdout, stderr capture
	code           uint32
	busy           int // how often in a row the host was too busy to tell
}

func newOutput(r Request) *output {
	return &output{stdout: newCapture(r.MaxStdout), stderr: newCapture(r.MaxStderr)}
}

func (o *output) write(name string, data []byte) {
	if name == "stderr" {
		o.stderr.write(data)
		return
	}
	o.stdout.write(data)
}

// result is what was kept. Characters are put together again over the borders of
// answers, since only bytes are joined.
func (o *output) result() Result {
	return Result{
		ExitCode: o.code, Stdout: o.stdout.bytes(), Stderr: o.stderr.bytes(),
		Truncated: o.stdout.cut || o.stderr.cut,
	}
}

// exit reads an exit code: 32 bits, which some versions print as signed.
func (o *output) exit(text string) error {
	if text == "" {
		return errors.New("the command ended without an exit code")
	}
	code, err := strconv.ParseInt(text, 10, 64)
	if err != nil || code < -1<<31 || code >= 1<<32 {
		return fmt.Errorf("exit code %q of the command", text)
	}
	o.code = uint32(code)
	return nil
}

// capture keeps the first and the last half of what is written to it: the
// beginning says what was done, the end how it went.
type capture struct {
	limit int
	head  []byte
	tail  []byte // a ring once it is full
	next  int    // where the ring is written next
	cut   bool
}

func newCapture(limit int) capture {
	if limit <= 0 {
		limit = defaultOutput
	}
	return capture{limit: limit}
}

func (c *capture) write(data []byte) {
	first := (c.limit + 1) / 2
	room := min(len(data), first-len(c.head))
	c.head = append(c.head, data[:room]...)
	data = data[room:]
	last := c.limit - first
	room = min(len(data), last-len(c.tail))
	c.tail = append(c.tail, data[:room]...)
	data = data[room:]
	if len(data) == 0 {
		return
	}
	c.cut = true
	if len(data) > last {
		data = data[len(data)-last:]
	}
	for len(data) > 0 {
		n := copy(c.tail[c.next:], data)
		c.next = (c.next + n) % last
		data = data[n:]
	}
}

func (c *capture) bytes() []byte {
	if len(c.head) == 0 {
		return nil
	}
	kept := make([]byte, 0, len(c.head)+len(c.tail))
	kept = append(kept, c.head...)
	kept = append(kept, c.tail[c.next:]...)
	return append(kept, c.tail[:c.next]...)
}
