package realm

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

//go:embed acceptor.py
var program string

// Acceptor accepts tickets for the realm's services. It is a wsman.Acceptor.
type Acceptor struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu      sync.Mutex
	answers *bufio.Reader
	last    int
}

// NewAcceptor starts the program that accepts. It ends with Close, or with this process.
func (r *Realm) NewAcceptor() (*Acceptor, error) {
	cmd := exec.Command("/usr/bin/python3", "-c", program)
	cmd.Env = append(os.Environ(), r.Environment()...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the acceptor: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the acceptor: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the acceptor: %w", err)
	}
	return &Acceptor{cmd: cmd, stdin: stdin, answers: bufio.NewReader(stdout)}, nil
}

// message is a request to the program, or its answer.
type message struct {
	Do        string `json:"do,omitempty"`
	ID        string `json:"id,omitempty"`
	Token     []byte `json:"token,omitempty"`
	Bindings  []byte `json:"bindings,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	Sealed    []byte `json:"sealed,omitempty"`
	Plain     []byte `json:"plain,omitempty"`
	User      string `json:"user,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (a *Acceptor) ask(request message) (message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		return message{}, err
	}
	if _, err := a.stdin.Write(append(line, '\n')); err != nil {
		return message{}, fmt.Errorf("ask the acceptor: %w", err)
	}
	line, err = a.answers.ReadBytes('\n')
	if err != nil {
		return message{}, fmt.Errorf("ask the acceptor: %w", err)
	}
	var answer message
	if err := json.Unmarshal(line, &answer); err != nil {
		return message{}, fmt.Errorf("read the acceptor's answer: %w", err)
	}
	if answer.Error != "" {
		return message{}, errors.New(answer.Error)
	}
	return answer, nil
}

// Accept implements wsman.Acceptor.
func (a *Acceptor) Accept(token, bindings []byte) (wsman.SecurityContext, []byte, error) {
	a.mu.Lock()
	a.last++
	id := strconv.Itoa(a.last)
	a.mu.Unlock()
	answer, err := a.ask(message{Do: "accept", ID: id, Token: token, Bindings: bindings})
	if err != nil {
		return nil, nil, err
	}
	return &accepted{acceptor: a, id: id}, answer.Token, nil
}

// Close ends the program.
func (a *Acceptor) Close() error {
	return errors.Join(a.stdin.Close(), a.cmd.Wait())
}

// accepted is one context.
type accepted struct {
	acceptor *Acceptor
	id       string
}

// Open implements wsman.SecurityContext.
func (c *accepted) Open(signature, sealed []byte) ([]byte, error) {
	answer, err := c.acceptor.ask(message{Do: "open", ID: c.id, Signature: signature, Sealed: sealed})
	return answer.Plain, err
}

// Seal implements wsman.SecurityContext.
func (c *accepted) Seal(plain []byte) (signature, sealed []byte, err error) {
	answer, err := c.acceptor.ask(message{Do: "seal", ID: c.id, Plain: plain})
	return answer.Signature, answer.Sealed, err
}

// Close implements wsman.SecurityContext.
func (c *accepted) Close() {
	_, _ = c.acceptor.ask(message{Do: "close", ID: c.id}) // there is nobody to tell
}
