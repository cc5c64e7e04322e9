package ssh

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// session is one command on a host.
type session struct {
	address        string
	channel        ssh.Channel
	requests       <-chan *ssh.Request
	stdout, stderr *tap
	abandoned      atomic.Bool // Stdin is not read any more

	exited  chan struct{} // an exit status or signal has come
	refused chan struct{} // the host would not run the command
	drained chan struct{} // both streams have ended
	joined  chan struct{} // every goroutine of the session has ended, but for one that waits for Stdin
	broken  chan error    // whom Run serves panicked: has room for both streams and Stdin

	// Written before exited is closed.
	code   int
	signal string
}

func newSession(address string, channel ssh.Channel, requests <-chan *ssh.Request) *session {
	return &session{
		address:  address,
		channel:  channel,
		requests: requests,
		exited:   make(chan struct{}),
		refused:  make(chan struct{}),
		drained:  make(chan struct{}),
		joined:   make(chan struct{}),
		broken:   make(chan error, 3),
	}
}

func (s *session) begin(request Request) {
	s.stdout = newTap(request.MaxStdout, request.OnStdout)
	s.stderr = newTap(request.MaxStderr, request.OnStderr)
	var streams, all sync.WaitGroup
	streams.Go(func() { s.copy(s.stdout, s.channel) })
	streams.Go(func() { s.copy(s.stderr, s.channel.Stderr()) })
	all.Go(func() {
		streams.Wait()
		close(s.drained)
	})
	all.Go(s.awaitExit)
	all.Go(func() { s.exec(request) })
	go func() {
		all.Wait()
		close(s.joined)
	}()
}

// copy calls whom Run serves, as Stdin, OnStdout or OnStderr. A panic of theirs ends the session only.
func (s *session) copy(to io.Writer, from io.Reader) {
	_, err := defect.Guard(func() (int64, error) { return io.Copy(to, from) })
	var panicked *defect.PanicError
	if errors.As(err, &panicked) {
		s.broken <- panicked
	}
}

// exec asks for the command and feeds it.
func (s *session) exec(request Request) {
	accepted, err := s.channel.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{request.Command}))
	if err != nil {
		return // The session has ended: awaitExit says how.
	}
	if !accepted {
		close(s.refused)
		return
	}
	if request.Stdin == nil {
		_ = s.channel.CloseWrite()
		return
	}
	// Not joined: its Read may block for longer than the session lives.
	go s.feed(request.Stdin)
}

// feed ends when Stdin does, or at the first piece that the session does not take any more.
func (s *session) feed(stdin io.Reader) {
	// A command may end without reading all of its input.
	s.copy(s.channel, &gatedReader{from: stdin, shut: &s.abandoned})
	_ = s.channel.CloseWrite()
}

// gatedReader ends when its session does.
type gatedReader struct {
	from io.Reader
	shut *atomic.Bool
}

func (r *gatedReader) Read(p []byte) (int, error) {
	if r.shut.Load() {
		return 0, io.EOF
	}
	return r.from.Read(p)
}

// awaitExit reads the session's requests until the host closes it.
func (s *session) awaitExit() {
	known := false
	for request := range s.requests {
		if request.WantReply {
			_ = request.Reply(false, nil)
		}
		if !known && s.readExit(request) {
			known = true
			close(s.exited)
		}
	}
}

func (s *session) readExit(request *ssh.Request) bool {
	switch request.Type {
	case "exit-status":
		if len(request.Payload) < 4 {
			return false
		}
		s.code = int(binary.BigEndian.Uint32(request.Payload))
		return true
	case "exit-signal":
		var message struct {
			Signal     string
			CoreDumped bool
			Error      string
			Lang       string
		}
		if ssh.Unmarshal(request.Payload, &message) != nil {
			return false
		}
		s.signal = message.Signal
		s.code = 128 + signalNumbers[message.Signal]
		return true
	default:
		return false
	}
}

// signalNumbers are those of RFC 4254, section 6.10, as Linux numbers them.
var signalNumbers = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9,
	"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

// wait returns nil once the command has ended and its output was read.
func (s *session) wait(ctx context.Context) error {
	select {
	case <-s.exited:
	case <-s.refused:
		return s.noCommand()
	case <-s.joined:
		return s.endedWithoutWord()
	case err := <-s.broken:
		return err
	case <-ctx.Done():
		return lost("run a command", context.Cause(ctx))
	}
	late := time.NewTimer(drainTime)
	defer late.Stop()
	select {
	case <-s.drained:
	case <-late.C:
	case <-ctx.Done():
	}
	select {
	case err := <-s.broken:
		return err
	default:
		return nil
	}
}

func (s *session) noCommand() error {
	return &transport.UnreachableError{Address: s.address, Err: errors.New("the host runs no command for this user")}
}

// endedWithoutWord is for a session that ended: did the exit status come first?
func (s *session) endedWithoutWord() error {
	select {
	case <-s.exited:
		return nil
	case <-s.refused:
		return s.noCommand()
	default:
		return lost("run a command", errors.New("the session ended without an exit status"))
	}
}

// end closes the session and gives its place back when the host has agreed. A
// host that does not agree in time is asked whether it is still there; if not,
// the connection ends, and with it what is left of the session.
func (s *session) end(c *Client) {
	s.abandoned.Store(true)
	s.stdout.close()
	s.stderr.close()
	go s.hangUp()
	late := time.NewTimer(closeTime)
	defer late.Stop()
	select {
	case <-s.joined:
		c.sessions.release()
	case <-late.C:
		c.suspect()
		go func() {
			<-s.joined
			c.sessions.release()
		}()
	}
}

// hangUp runs beside end, for a write to a host that is gone can block until
// the keepalive ends the connection.
func (s *session) hangUp() {
	select {
	case <-s.exited:
	default:
		_, _ = s.channel.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{"KILL"}))
	}
	_ = s.channel.Close()
}

func (s *session) result() Result {
	stdout, cutOut := s.stdout.bytes()
	stderr, cutErr := s.stderr.bytes()
	return Result{ExitCode: s.code, Signal: s.signal, Stdout: stdout, Stderr: stderr, Truncated: cutOut || cutErr}
}
