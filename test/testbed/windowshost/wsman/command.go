package wsman

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"strconv"
	"sync"
	"time"
)

// Programs runs the commands of shells.
type Programs interface {
	// Run starts a command line. An error that is a *Fault is told to the client as it is.
	Run(shell Shell, line string) (Program, error)
}

// Program is a running command.
type Program interface {
	Stdin() io.WriteCloser
	Stdout() io.ReadCloser
	Stderr() io.ReadCloser
	// Wait is called once, after the streams have ended or Kill was called.
	Wait() (exitCode uint32, err error)
	// Kill ends the program and all that it has started.
	Kill()
}

const (
	// bufferLimit is how much output, and how much input, waits for the other side.
	bufferLimit = 1 << 20
	readSize    = 32 << 10
)

// command is a program with what it has written and not yet been asked for.
type command struct {
	id      string
	program Program

	mu     sync.Mutex
	change *sync.Cond
	output [2]stream // stdout, stderr
	input  bytes.Buffer
	closed bool // no more input comes
	exited bool
	code   uint32
	told   bool // the client has been told the exit code
	killed bool
}

type stream struct {
	data  []byte
	ended bool // no more comes
	told  bool // the client knows that
}

func newCommand(id string, program Program) *command {
	c := &command{id: id, program: program}
	c.change = sync.NewCond(&c.mu)
	var readers sync.WaitGroup
	for i, from := range []io.ReadCloser{program.Stdout(), program.Stderr()} {
		readers.Go(func() { c.collect(i, from) })
	}
	go c.feed()
	go func() {
		readers.Wait()
		code, err := program.Wait()
		c.update(func() {
			if err != nil {
				code = 1
				c.output[1].data = append(c.output[1].data, err.Error()+"\r\n"...)
			}
			c.exited, c.code = true, code
		})
	}()
	return c
}

// update changes the state and wakes who waits for it.
func (c *command) update(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.change.Broadcast()
}

// collect takes output in, as long as the client fetches it.
func (c *command) collect(i int, from io.ReadCloser) {
	defer from.Close() //nolint:errcheck // only read
	buffer := make([]byte, readSize)
	for {
		n, err := from.Read(buffer)
		c.update(func() {
			c.output[i].data = append(c.output[i].data, buffer[:n]...)
			c.output[i].ended = err != nil
			for len(c.output[i].data) > bufferLimit && !c.killed {
				c.change.Wait()
			}
		})
		if err != nil {
			return
		}
	}
}

// feed passes input on to the program.
func (c *command) feed() {
	stdin := c.program.Stdin()
	for {
		c.mu.Lock()
		for c.input.Len() == 0 && !c.closed && !c.exited && !c.killed {
			c.change.Wait()
		}
		data := bytes.Clone(c.input.Bytes())
		c.input.Reset()
		last := len(data) == 0
		c.change.Broadcast()
		c.mu.Unlock()
		if last {
			_ = stdin.Close() // it may have ended
			return
		}
		_, _ = stdin.Write(data) // a program that has ended reads no more
	}
}

// write queues input; false if the queue stays full for too long. The data is queued
// all the same: a client must not send it again.
func (c *command) write(data []byte, timeout time.Duration) bool {
	expired := false
	timer := time.AfterFunc(timeout, func() { c.update(func() { expired = true }) })
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.input.Write(data)
	c.change.Broadcast()
	for c.input.Len() > bufferLimit && !c.exited && !c.killed {
		if expired {
			return false
		}
		c.change.Wait()
	}
	return true
}

// closeInput tells the program, once it has read what is queued, that no more comes.
func (c *command) closeInput() { c.update(func() { c.closed = true }) }

// received is the content of one answer to Receive.
type received struct {
	data  [2][]byte
	ended [2]bool
	done  bool
	code  uint32
}

// read waits for output or the end; false if there is none in time.
func (c *command) read(ctx context.Context, room int, timeout time.Duration) (received, bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.update(func() {}) })()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if got, ok := c.take(room); ok {
			return got, true
		}
		if ctx.Err() != nil {
			return received{}, false
		}
		c.change.Wait()
	}
}

// take takes out what there is to tell; false if there is nothing.
func (c *command) take(room int) (received, bool) {
	got, some := received{}, false
	for i := range c.output {
		s := &c.output[i]
		n := min(room, len(s.data))
		got.data[i] = bytes.Clone(s.data[:n])
		s.data = s.data[n:]
		room -= n
		got.ended[i] = c.exited && s.ended && len(s.data) == 0 && !s.told
		s.told = s.told || got.ended[i]
		some = some || n > 0
	}
	if c.exited && c.output[0].told && c.output[1].told {
		got.done, got.code, c.told, some = true, c.code, true, true
	}
	c.change.Broadcast()
	return got, some
}

// reported is true once the client has been told the exit code.
func (c *command) reported() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// end ends the program if it still runs.
func (c *command) end() {
	c.mu.Lock()
	running := !c.exited && !c.killed
	c.killed = true
	c.change.Broadcast()
	c.mu.Unlock()
	if running {
		c.program.Kill()
	}
}

var streamNames = [2]string{"stdout", "stderr"}

// envelope is the answer to Receive (MS-WSMV 3.1.4.14).
func (got received) envelope(request *envelope, id string) []byte {
	a := newReply(actionReceive+"Response", request.Header.MessageID)
	a.WriteString("<rsp:ReceiveResponse>")
	for i, name := range streamNames {
		open := `<rsp:Stream Name="` + name + `" CommandId="` + escape(id) + `"`
		if len(got.data[i]) > 0 {
			a.WriteString(open + ">" + base64.StdEncoding.EncodeToString(got.data[i]) + "</rsp:Stream>")
		}
		if got.ended[i] {
			a.WriteString(open + ` End="true"></rsp:Stream>`)
		}
	}
	if got.done {
		a.WriteString(`<rsp:CommandState CommandId="` + escape(id) + `" State="` + stateDone + `">`)
		a.element("rsp:ExitCode", strconv.FormatUint(uint64(got.code), 10))
		a.WriteString(`</rsp:CommandState>`)
	} else {
		a.WriteString(`<rsp:CommandState CommandId="` + escape(id) + `" State="` + stateRunning + `"></rsp:CommandState>`)
	}
	a.WriteString("</rsp:ReceiveResponse>")
	return a.end()
}

// flood is an answer to Receive that is full and says that more comes.
func flood(request *envelope, receive *element) []byte {
	got := received{data: [2][]byte{bytes.Repeat([]byte("flood\r\n"), 8192)}}
	return got.envelope(request, receive.child("DesiredStream").attr("CommandId"))
}
