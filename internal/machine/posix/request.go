package posix

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	maxRequestStderr = 8 << 10
	maxExcerpt       = 200
)

// request is one script and the random word that frames its answer.
type request struct {
	script
	nonce string
	// lasting keeps the input open until the answer has come: the host learns from its end that nobody waits.
	lasting bool
	// attach, if set, is given the talk with the host before it begins, and what the host says while it goes on.
	attach func(*talk) (hear func(chunk []byte))
}

// newRequest begins a script. The word is random for each request, so that
// nothing a host stores or prints can contain it.
func (m *Machine) newRequest() *request {
	r := &request{nonce: rand.Text()}
	r.line("isthmus() {")
	r.use("prologue")
	r.line("n=%s", r.nonce)
	r.line("S=%s", quote(m.options.StateDir))
	r.line(`printf '\n%%s begin\n' "$n"`)
	return r
}

func (r *request) close() string {
	r.line(`printf '\n%%s end\n' "$n"`)
	r.line("}")
	// The word that runs it all comes last: no part of this line does.
	if r.lasting {
		r.line("8<&0 </dev/null isthmus; exit")
	} else {
		r.line("</dev/null isthmus")
	}
	return r.String()
}

// send runs the script and returns the lines of its answer; truncated says that
// there was more than maxAnswer bytes, and that the answer cannot be used.
func (m *Machine) send(ctx context.Context, doing string, r *request, maxAnswer int) (answer string, truncated bool, err error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.options.RequestTimeout)
		defer cancel()
	}
	result, err := m.run(ctx, doing, r, maxAnswer)
	if err != nil {
		return "", false, err
	}
	_, answer, begun := strings.Cut(string(result.Stdout), "\n"+r.nonce+" begin\n")
	if !begun {
		return "", false, m.noShell(doing, result)
	}
	answer, _, ended := strings.Cut(answer, "\n"+r.nonce+" end\n")
	if !ended {
		return "", false, &transport.LostError{Doing: doing, Err: errors.New("the host's shell ended early")}
	}
	return answer, len(result.Stdout) >= maxAnswer, nil
}

// run gives the script to a shell on the host, as the user that we are to become.
func (m *Machine) run(ctx context.Context, doing string, r *request, maxAnswer int) (transport.Result, error) {
	text := r.close()
	request := transport.Request{MaxStdout: maxAnswer, MaxStderr: maxRequestStderr}
	shell := m.readShell(r, len(text))
	become := m.options.Become
	withPassword := become != nil && len(become.Password) > 0
	if !withPassword && !r.lasting {
		request.Command, request.Stdin = m.command(shell), strings.NewReader(text)
		result, err := m.runner.Run(ctx, request)
		return result, doingError(doing, err)
	}
	t := newTalk()
	defer t.hangUp()
	request.Stdin = t
	if r.attach != nil {
		request.OnStdout = r.attach(t)
	}
	speak := func() {
		t.say(strings.NewReader(text))
		if !r.lasting {
			t.end()
		}
	}
	if withPassword {
		d := newSudoDialog(become, t, speak)
		request.Command = d.command(shell)
		result, err := m.runBecoming(ctx, doing, request, d)
		return result, doingError(doing, err)
	}
	request.Command = m.command(shell)
	speak()
	result, err := m.runner.Run(ctx, request)
	return result, doingError(doing, err)
}

func doingError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// largeScript is the size from which a script is read by a program: bash reads its
// script from a pipe byte by byte, which takes a second for each megabyte.
const largeScript = 32 << 10

// readShell is the shell that reads a script of so many bytes. An input that stays open has no end that
// cat could wait for; no third command is used, for people name the two in sudoers.
func (m *Machine) readShell(r *request, size int) string {
	if r.lasting || size <= largeScript {
		return m.shell + " -s"
	}
	return m.shell + ` -c 'eval "$(cat)"'`
}

// command is what the login shell is given, whichever shell that is.
func (m *Machine) command(shell string) string {
	if m.options.Become == nil {
		return shell
	}
	return "sudo -n -H -u " + quote(m.options.Become.User) + " -- " + shell
}

// sudoRefused is sudo's own exit code; that of its command is never seen here.
const sudoRefused = 1

// noShell says why the script did not run. Its output cannot hold a secret: no
// part of the script was carried out.
func (m *Machine) noShell(doing string, result transport.Result) error {
	if m.options.Become != nil && result.ExitCode == sudoRefused {
		// The first line may be a warning and the last one a consequence.
		return m.sudoRefusal(doing, sudoWords(result.Stderr, "\n"))
	}
	said := excerpt(lastLine(result.Stderr))
	if said == "" {
		said = excerpt(lastLine(result.Stdout))
	}
	return fmt.Errorf("%s: the host ran no shell (exit code %d): %s", doing, result.ExitCode, said)
}

func lastLine(text []byte) string {
	text = bytes.TrimSpace(text)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// excerpt makes what a host said fit for people: short, valid, one line.
func excerpt(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxExcerpt {
		text = strings.ToValidUTF8(text[:maxExcerpt], "") + "..."
	}
	return strings.TrimSpace(text)
}
