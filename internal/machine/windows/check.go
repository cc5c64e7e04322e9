package windows

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

const (
	timedOut = "Timeout"
	// maxChecked is how much of what a read-only script prints is received, maxShown how much of its end is shown.
	maxChecked = 256 << 10
	maxShown   = 4 << 10
	// spare is left of a pass for its answers, when scripts take all the time they can get.
	spare = time.Second
	// Words of the wrapper of a read-only script.
	saysExit    = "isthmus-exit="
	saysMissing = "isthmus-missing"
)

var (
	errScriptTime = errors.New("the script ran out of time")
	errNoScript   = errors.New("the script is not on the host")
)

// checkScripts remembers, for the life of a machine value, which read-only scripts
// the host has, and which of them took too long the last time.
type checkScripts struct {
	mu        sync.Mutex
	delivered map[string]bool
	slow      map[machine.Script]bool
}

func newCheckScripts() *checkScripts {
	return &checkScripts{delivered: map[string]bool{}, slow: map[machine.Script]bool{}}
}

// scriptPass runs the scripts of a pass, one after the other, beside the other
// questions: one that hangs has one shell and one connection of the two.
type scriptPass struct {
	m       *Machine
	answers map[machine.Check]machine.Answer
	err     error
	done    chan struct{}
	stop    context.CancelFunc
}

// beginScripts runs the scripts of a pass in the background. The slow ones come last.
func (p *pass) beginScripts(ctx context.Context) *scriptPass {
	ctx, stop := context.WithCancel(ctx)
	s := &scriptPass{m: p.m, answers: map[machine.Check]machine.Answer{}, done: make(chan struct{}), stop: stop}
	if len(p.scripts) == 0 {
		close(s.done)
		return s
	}
	p.m.background.Go(func() {
		defer close(s.done)
		_, s.err = defect.Guard(func() (none struct{}, err error) { return none, s.ask(ctx, p.scripts) })
	})
	return s
}

func (s *scriptPass) ask(ctx context.Context, checks []machine.Script) (err error) {
	for _, check := range s.m.scripts.order(checks) {
		if s.answers[check], err = s.m.askScript(ctx, check, checks); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until all scripts have answered or run out of time.
func (s *scriptPass) wait(context.Context) error {
	defer s.stop()
	<-s.done
	return s.err
}

func (c *checkScripts) order(checks []machine.Script) []machine.Script {
	c.mu.Lock()
	defer c.mu.Unlock()
	sorted := slices.Clone(checks)
	slices.SortStableFunc(sorted, func(a, b machine.Script) int {
		switch {
		case c.slow[a] == c.slow[b]:
			return 0
		case c.slow[a]:
			return 1
		default:
			return -1
		}
	})
	return sorted
}

func (c *checkScripts) took(check machine.Script, tooLong error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.slow, check)
	if tooLong != nil {
		c.slow[check] = true
	}
}

// askScript runs one script. What it could not learn is a Problem; its error is about the connection.
func (m *Machine) askScript(ctx context.Context, check machine.Script, all []machine.Script) (machine.Answer, error) {
	if check.Timeout <= 0 {
		return machine.Problem{Reason: failed, Message: "the script has no time limit"}, nil
	}
	limit := check.Timeout
	if deadline, limited := ctx.Deadline(); limited {
		limit = min(limit, time.Until(deadline)-spare)
	}
	if limit <= 0 {
		return machine.Problem{Reason: timedOut, Message: "other scripts of this host left no time for this one; it is asked again in the next pass"}, nil
	}
	timed, cancel := context.WithTimeoutCause(ctx, limit, errScriptTime)
	defer cancel()
	state, err := m.runCheck(timed, check, all)
	late := err != nil && errors.Is(context.Cause(timed), errScriptTime)
	if late {
		m.scripts.took(check, errScriptTime)
		return machine.Problem{Reason: timedOut, Message: fmt.Sprintf("%v (%v) and was ended", errScriptTime, limit.Round(time.Millisecond))}, nil
	}
	m.scripts.took(check, nil)
	switch {
	case err == nil:
		return state, nil
	case broken(err):
		return nil, err
	default:
		return machine.Problem{Reason: failed, Message: printable(redact(err.Error(), secretsOf(check)))}, nil
	}
}

// runCheck runs a script that the host has, and delivers it where it has not.
func (m *Machine) runCheck(ctx context.Context, check machine.Script, all []machine.Script) (machine.ScriptState, error) {
	digest := checkDigest(check)
	if err := m.deliverCheck(ctx, check, digest, all); err != nil {
		return machine.ScriptState{}, err
	}
	state, err := m.execute(ctx, check, digest)
	if !errors.Is(err, errNoScript) {
		return state, err
	}
	m.scripts.mu.Lock()
	delete(m.scripts.delivered, digest)
	m.scripts.mu.Unlock()
	m.secured.Store(false)
	if err := m.deliverCheck(ctx, check, digest, all); err != nil {
		return machine.ScriptState{}, err
	}
	return m.execute(ctx, check, digest)
}

func (m *Machine) execute(ctx context.Context, check machine.Script, digest string) (machine.ScriptState, error) {
	wrapper := quoted(m.state.script(digest) + `\check.cmd`)
	result, err := m.remote.Run(ctx, winrm.Request{
		Command: fmt.Sprintf("if exist %[1]s (call %[1]s) else (echo %[2]s)", wrapper, saysMissing), MaxStdout: maxChecked, MaxStderr: maxAnswer,
	})
	if err != nil {
		return machine.ScriptState{}, fmt.Errorf("run the script: %w", err)
	}
	return checked(result, secretsOf(check))
}

// checked reads what the wrapper of a script printed. Its last word is the exit
// code of the script: without it the script was not run, and nothing is known.
func checked(result winrm.Result, secrets []machine.Secret) (machine.ScriptState, error) {
	text := shown(result.Stdout, secrets)
	printed, code, found := cutLast(text, saysExit)
	switch {
	case result.Truncated:
		// The last word is lost; the wrapper ended with the same code.
		text = shown(cutEnd(result.Stdout, longest(secrets)), secrets)
		return machine.ScriptState{ExitCode: int(int32(result.ExitCode)), Output: ending(text, maxShown-64) + "\n[more than 256 KiB]"}, nil
	case strings.TrimSpace(text) == saysMissing:
		return machine.ScriptState{}, errNoScript
	case !found:
		return machine.ScriptState{}, fmt.Errorf("the script could not be run: exit code %d: %s", result.ExitCode, lastLines([]byte(text), []byte(shown(result.Stderr, secrets))))
	}
	value, err := strconv.ParseInt(strings.TrimSpace(code), 10, 64)
	if err != nil {
		return machine.ScriptState{}, fmt.Errorf("the script could not be run: %s", strings.TrimSpace(code))
	}
	return machine.ScriptState{ExitCode: int(value), Output: ending(printed, maxShown)}, nil
}

func cutLast(text, word string) (before, after string, found bool) {
	at := strings.LastIndex(text, word)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(word):], true
}

// checkDigest names what a script is delivered as.
func checkDigest(check machine.Script) string {
	sum := sha256.New()
	for _, part := range []string{check.Interpreter, string(check.Text), string(check.Environment)} {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part) // a hash takes everything
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

func secretsOf(check machine.Script) []machine.Secret {
	var secrets []machine.Secret
	for _, v := range machine.DecodeEnvironment(check.Environment) {
		secrets = append(secrets, v.Value)
	}
	return secrets
}

// checkFiles are a read-only script and its wrapper, which holds its environment.
func checkFiles(dir string, check machine.Script) ([]machine.PutFile, error) {
	program, err := parseInterpreter(check.Interpreter)
	if err != nil {
		return nil, err
	}
	text, err := program.text(string(check.Text))
	if err != nil {
		return nil, err
	}
	environment, err := environmentFile(machine.DecodeEnvironment(check.Environment))
	if err != nil {
		return nil, err
	}
	body := dir + `\script` + program.extension()
	wrapper := lines(
		"@echo off",
		"setlocal DisableDelayedExpansion",
		"if not exist "+program.file()+" echo "+saysExit+"the interpreter "+strings.Trim(program.file(), `"`)+" is not there& exit 1",
	) + environment + lines(
		program.line(body),
		"echo "+saysExit+"%errorlevel%& exit %errorlevel%",
	)
	return []machine.PutFile{file(body, text), file(dir+`\check.cmd`, wrapper)}, nil
}

// deliverCheck has the host keep a script under the name of its digest, so that it
// is sent once. Scripts that nobody asks for any more are removed then.
func (m *Machine) deliverCheck(ctx context.Context, check machine.Script, digest string, all []machine.Script) error {
	m.scripts.mu.Lock()
	known := m.scripts.delivered[digest]
	m.scripts.mu.Unlock()
	if known {
		return nil
	}
	dir := m.state.script(digest)
	files, err := checkFiles(dir, check)
	if err != nil {
		return err
	}
	if err := m.secure(ctx); err != nil {
		return err
	}
	wrapper := files[len(files)-1]
	found, err := m.stamps(ctx, []string{wrapper.Path})
	if err != nil {
		return fmt.Errorf("look for the script: %w", err)
	}
	if found[key(wrapper.Path)].size != int64(len(wrapper.Content)) {
		if err := m.removeChecks(ctx, all); err != nil {
			return err
		}
		// The wrapper comes last: where it is, the script is.
		for _, file := range files {
			if _, err := m.put(ctx, file); err != nil {
				return fmt.Errorf("deliver the script: %w", err)
			}
		}
	}
	m.scripts.mu.Lock()
	m.scripts.delivered[digest] = true
	m.scripts.mu.Unlock()
	return nil
}

// removeChecks removes the scripts that are not among those that are asked now.
func (m *Machine) removeChecks(ctx context.Context, asked []machine.Script) error {
	result, err := m.cmd(ctx, "list scripts", "dir /b "+quoted(m.state.scripts())+" 2>nul& exit 0")
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, check := range asked {
		wanted[checkDigest(check)] = true
	}
	m.scripts.mu.Lock()
	maps.DeleteFunc(m.scripts.delivered, func(digest string, _ bool) bool { return !wanted[digest] })
	maps.DeleteFunc(m.scripts.slow, func(check machine.Script, _ bool) bool { return !wanted[checkDigest(check)] })
	m.scripts.mu.Unlock()
	var removals []string
	for name := range strings.Lines(string(result.Stdout)) {
		name = strings.TrimSpace(name)
		if digest, err := hex.DecodeString(name); err == nil && len(digest) == 16 && !wanted[name] {
			removals = append(removals, "rmdir /s /q "+quoted(m.state.script(name))+" 2>nul")
		}
	}
	for _, line := range joinLines(removals) {
		if _, err := m.cmd(ctx, "remove scripts", line+"& exit 0"); err != nil {
			return err
		}
	}
	return nil
}
