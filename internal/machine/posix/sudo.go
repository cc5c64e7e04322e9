package posix

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// sudoPatience is how long sudo may talk of other things before it asks for the password: after
	// that it will not, and is not asked again. A request that has less time gives up earlier, and says
	// what it heard.
	sudoPatience = 25 * time.Second
	// maxSudo is what is read of sudo's words.
	maxSudo = 16 << 10
)

// sudoState is what a machine knows about its password. The first request finds
// out and the others wait: ten requests must not be ten attempts.
type sudoState struct {
	turn     chan struct{} // held while it is found out
	patience time.Duration

	mu      sync.Mutex
	proven  bool
	refused error
}

// sudoOutcome of one request; zero when it has found nothing out.
type sudoOutcome struct {
	passed  bool
	refused error
}

func newSudoState() *sudoState {
	return &sudoState{turn: make(chan struct{}, 1), patience: sudoPatience}
}

func (s *sudoState) known() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven || s.refused != nil, s.refused
}

// enter returns when it is known whether the password is right, or when it is this request's turn to
// find out. leave is to be called once that is known, and at the end; only the first call counts.
func (s *sudoState) enter(ctx context.Context) (leave func(sudoOutcome), err error) {
	if known, err := s.known(); known {
		return s.settle(func() {}), err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, &transport.LostError{Doing: "wait for sudo", Err: context.Cause(ctx)}
	}
	release := func() { <-s.turn }
	if known, err := s.known(); known {
		release()
		return s.settle(func() {}), err
	}
	return s.settle(release), nil
}

func (s *sudoState) settle(release func()) func(sudoOutcome) {
	var once sync.Once
	return func(o sudoOutcome) {
		once.Do(func() {
			s.mu.Lock()
			s.proven = s.proven || o.passed
			if o.refused != nil {
				s.refused = o.refused
			}
			s.mu.Unlock()
			release()
		})
	}
}

// sudoDialog is one conversation with sudo. The password is given once, to nobody but who asks
// in our own random words; the script only when the shell has said another random word. sudo repeats
// the command when it refuses, so that word stands in the command in two halves.
type sudoDialog struct {
	user, prompt, marker string
	password             machine.Secret
	talk                 *talk
	through              func() // says the script

	mu     sync.Mutex
	heard  []byte
	given  bool // the password
	passed bool
	late   bool   // it was over by its time
	reason string // why it is over
}

func newSudoDialog(become *Become, t *talk, through func()) *sudoDialog {
	return &sudoDialog{
		user: become.User, prompt: "isthmus-" + rand.Text() + ":", marker: rand.Text(),
		password: bytes.TrimRight(become.Password, "\r\n"), talk: t, through: through,
	}
}

// command is given to the login shell, which may be any. sudo speaks English to us.
func (d *sudoDialog) command(shell string) string {
	half := len(d.marker) / 2
	inner := fmt.Sprintf(`printf "%%s%%s\n" %s %s >&2; exec %s`, d.marker[:half], d.marker[half:], shell)
	return "env LC_ALL=C sudo -H -S -p " + quote(d.prompt) + " -u " + quote(d.user) + " -- /bin/sh -c " + quote(inner)
}

// hear is given all that comes on the error stream.
func (d *sudoDialog) hear(chunk []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed || d.reason != "" {
		return
	}
	d.heard = append(d.heard, chunk...)
	switch asked := bytes.Count(d.heard, []byte(d.prompt)); {
	case bytes.Contains(append([]byte("\n"), d.heard...), []byte("\n"+d.marker+"\n")),
		bytes.Contains(d.heard, []byte(d.prompt+d.marker+"\n")):
		d.passed = true
		d.heard = nil
		d.through()
	case mentions(d.heard, expired...):
		// What is asked for next is a new password, perhaps in our words.
		d.over(sudoWords(d.heard, d.prompt))
	case asked > 1:
		d.over("the password is wrong")
	case len(d.heard) > maxSudo:
		d.over("it says too much")
	case asked == 1 && !d.given:
		d.given = true
		d.talk.say(strings.NewReader(string(d.password) + "\n"))
	}
}

// expired are the words of sudo and PAM about a password that must be changed first.
var expired = []string{"expired", "reset your password", "change your password", "Current password", "New password"}

func mentions(text []byte, words ...string) bool {
	for _, word := range words {
		if bytes.Contains(text, []byte(word)) {
			return true
		}
	}
	return false
}

// over ends the conversation: sudo reads the end of its input and counts no further attempt.
func (d *sudoDialog) over(reason string) {
	d.reason = reason
	d.talk.hangUp()
}

// sudoWords are what sudo has said, on one line and without our prompt.
func sudoWords(text []byte, prompt string) string {
	said := strings.TrimSpace(strings.ReplaceAll(string(text), prompt, "\n"))
	lines := strings.FieldsFunc(said, func(r rune) bool { return r == '\n' || r == '\r' })
	return excerpt(strings.Join(lines, "; "))
}

// runBecoming runs a request through sudo with a password.
func (m *Machine) runBecoming(ctx context.Context, doing string, request transport.Request, d *sudoDialog) (transport.Result, error) {
	leave, err := m.sudo.enter(ctx)
	if err != nil {
		return transport.Result{}, err
	}
	defer leave(sudoOutcome{})
	through := d.through
	d.through = func() {
		leave(sudoOutcome{passed: true})
		through()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := m.sudo.patienceIn(ctx)
	late := time.AfterFunc(patience, func() {
		if d.expire() {
			cancel()
		}
	})
	defer late.Stop()
	request.OnStderr = d.hear
	result, err := m.runner.Run(ctx, request)
	reason := d.failure(result, err)
	if reason != "" && d.expired() && patience < m.sudo.patience {
		return result, &transport.LostError{Doing: doing, Err: errors.New("sudo did not get to the password in time: " + reason)}
	}
	if reason != "" {
		refused := m.sudoRefusal(doing, reason)
		leave(sudoOutcome{refused: refused})
		return result, refused
	}
	return result, err
}

// patienceIn leaves a request the time to tell what it has heard.
func (s *sudoState) patienceIn(ctx context.Context) time.Duration {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return s.patience
	}
	return min(s.patience, time.Until(deadline)*4/5)
}

// expire ends a conversation in which sudo has said something and has not asked for the password. Who
// says nothing, or is slow to judge the password, as where a directory service is down, refuses
// nothing: that ends with the request's time.
func (d *sudoDialog) expire() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	said := sudoWords(d.heard, d.prompt)
	if d.passed || d.given || d.reason != "" || said == "" {
		return false
	}
	d.late = true
	d.over("it neither asked for the password in the words that it was given nor ran the shell; it said: " + said)
	return true
}

func (d *sudoDialog) expired() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.late
}

// failure says why sudo did not let us through; empty when it did, or when the connection failed.
func (d *sudoDialog) failure(result transport.Result, err error) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed || d.reason == "" && (err != nil || result.ExitCode != sudoRefused) {
		return ""
	}
	if d.reason != "" {
		return d.reason
	}
	return sudoWords(result.Stderr, d.prompt)
}

// sudoRefusal is final until a person acts: each attempt is logged and reported on the host, and could
// lock the account.
func (m *Machine) sudoRefusal(doing, said string) error {
	how := "sudo -n"
	if len(m.options.Become.Password) > 0 {
		how = "sudo -S"
	}
	if cure := m.sudoCure(said); cure != "" {
		said += ": " + cure
	}
	return &transport.CredentialsError{
		Method: how + " -u " + m.options.Become.User + ": " + said,
		User:   m.options.LoginUser,
		Err:    fmt.Errorf("%s: %w", doing, errBecome),
	}
}

var errBecome = errors.New("sudo refused")

// sudoCure tells what to do about what sudo has said, in English as we asked, or in other words.
func (m *Machine) sudoCure(said string) string {
	has := func(words ...string) bool { return mentions([]byte(said), words...) }
	switch {
	case has("a password is required") && len(m.options.Become.Password) == 0:
		return "add the key become-password to the Secret, or give the user NOPASSWD in sudoers"
	case has("the password is wrong", "incorrect password"):
		return "correct the key become-password of the Secret; it was tried once and is not tried again"
	case has("must have a tty"):
		return "remove requiretty for this user from sudoers"
	case has(expired...):
		return "set a new password for the account on the host"
	case has("account validation failure", "locked"):
		return "unlock the account on the host"
	case has("not in the sudoers", "not allowed to", "may not run sudo"):
		return "allow the user /bin/sh as " + m.options.Become.User + " in sudoers"
	default:
		return ""
	}
}
