package wine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Absent stands for NULL among the words of a call and of an answer.
const Absent = "\x00"

// errProviderEnded is what a call gets whose provider has died under it: whether
// the call had its effect is unknown.
var errProviderEnded = errors.New("the provider process has ended")

// Answer is what the provider sends back: records first, then a Win32 code, zero for
// success, and further words.
type Answer struct {
	Records [][]string
	Code    uint32
	Words   []string
}

// Provider is the process WmiPrvSE.exe. It is started with the first call, and
// again with the next call after it has died.
type Provider struct {
	machine *Machine

	mu      sync.Mutex
	session *session
}

// session is one run of the process.
type session struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output io.Closer
	ended  chan struct{}

	mu      sync.Mutex
	next    int
	pending map[string]*call
}

// call is a request that waits for its answer.
type call struct {
	answer Answer
	done   chan struct{}
}

func newProvider(m *Machine) *Provider { return &Provider{machine: m} }

// Call sends a verb with words and waits for the answer. The verbs are those of the
// program's sources. An error means that there is no answer; a failure of the
// Win32 API is a code in the answer.
func (p *Provider) Call(ctx context.Context, verb string, words ...string) (Answer, error) {
	s, err := p.running()
	if err != nil {
		return Answer{}, err
	}
	id, waiting, err := s.send(verb, words)
	if err != nil {
		return Answer{}, fmt.Errorf("ask Wine for %s: %w", verb, err)
	}
	select {
	case <-waiting.done:
		return waiting.answer, nil
	case <-s.ended:
		return Answer{}, fmt.Errorf("ask Wine for %s: %w", verb, errProviderEnded)
	case <-ctx.Done():
		s.forget(id)
		return Answer{}, fmt.Errorf("ask Wine for %s: %w", verb, ctx.Err())
	}
}

// running returns the session, which it starts if there is none.
func (p *Provider) running() (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != nil {
		select {
		case <-p.session.ended:
		default:
			return p.session, nil
		}
	}
	s, err := p.start()
	if err != nil {
		return nil, err
	}
	p.session = s
	return s, nil
}

func (p *Provider) start() (*session, error) {
	if err := p.machine.on(); err != nil {
		return nil, fmt.Errorf("start the provider: %w", err)
	}
	cmd := p.machine.command(context.Background(), `C:\windows\system32\wbem\WmiPrvSE.exe`)
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the provider: %w", err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the provider: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the provider: %w", err)
	}
	s := &session{cmd: cmd, input: input, output: output, ended: make(chan struct{}), pending: map[string]*call{}}
	// The process ends with its input, so an owner that dies before this line leaves nothing.
	if err := p.machine.config.Janitor.Kill(cmd.Process.Pid); err != nil {
		return nil, errors.Join(err, input.Close(), cmd.Wait())
	}
	go s.read(output)
	return s, nil
}

// outputGrace is how long the output of a process that ends is waited for.
const outputGrace = 2 * time.Second

// stop ends the process and waits for it.
func (p *Provider) stop() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return nil
	}
	err := p.session.input.Close()
	select {
	case <-p.session.ended:
	case <-time.After(outputGrace):
		// Processes that it has created run on, and hold its output open.
		_ = p.session.output.Close()
		<-p.session.ended
	}
	p.session = nil
	if errors.Is(err, os.ErrClosed) {
		return nil // it had ended before
	}
	return err
}

// send writes a request as one line.
func (s *session) send(verb string, words []string) (string, *call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := strconv.Itoa(s.next)
	line := []string{id, verb}
	for _, word := range words {
		line = append(line, encode(word))
	}
	waiting := &call{done: make(chan struct{})}
	s.pending[id] = waiting
	_, err := io.WriteString(s.input, strings.Join(line, " ")+"\n")
	return id, waiting, err
}

func (s *session) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, id)
}

// read takes in answers until the process ends.
func (s *session) read(output io.Reader) {
	defer close(s.ended)
	lines := bufio.NewReaderSize(output, 1<<16)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		s.take(strings.Fields(line))
	}
	_ = s.cmd.Wait() //nolint:errcheck // its exit code says nothing that the end does not
}

// take adds one line to the answer it belongs to.
func (s *session) take(fields []string) {
	if len(fields) < 2 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.pending[fields[0]]
	if waiting == nil {
		return
	}
	if fields[1] == "+" {
		waiting.answer.Records = append(waiting.answer.Records, decodeAll(fields[2:]))
		return
	}
	code, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		code = 1
	}
	waiting.answer.Code = uint32(code)
	waiting.answer.Words = decodeAll(fields[3:])
	delete(s.pending, fields[0])
	close(waiting.done)
}

// encode is the form that a word has in the line protocol; see programs/text.h.
func encode(word string) string {
	switch word {
	case Absent:
		return "~"
	case "":
		return "%"
	}
	var line strings.Builder
	for i := range len(word) {
		c := word[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(`._:\-/`, c) >= 0 {
			line.WriteByte(c)
			continue
		}
		fmt.Fprintf(&line, "%%%02X", c)
	}
	return line.String()
}

func decodeAll(words []string) []string {
	plain := make([]string, len(words))
	for i, word := range words {
		plain[i] = decode(word)
	}
	return plain
}

func decode(word string) string {
	switch word {
	case "~":
		return Absent
	case "%":
		return ""
	}
	plain, err := url.PathUnescape(word)
	if err != nil {
		return word
	}
	return plain
}
