package conformance

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/redaction"
)

// secret has to be escaped for a URL, and nothing in it is special to a shell that prints it.
const secret = "Zk7+c0nf0rmance/S3cret==" //nolint:gosec // a canary, and no credential of anybody

func testScripts(t *testing.T, s *suite) {
	t.Run("Runs", func(t *testing.T) {
		path := s.path("script-effect")
		s.succeed(t, s.run(s.words.phrase(appendLine, path)), s.run(s.words.phrase(appendLine, path)))
		s.holds(t, path, s.words.appended(2))
	})
	t.Run("ExitCodes", func(t *testing.T) {
		for _, code := range []int{1, 2, 77, 255} {
			require.Equal(t, code, s.fail(t, s.run(s.words.phrase(exit, code))).ExitCode)
		}
	})
	t.Run("Environment", func(t *testing.T) {
		step := s.run(s.words.phrase(variable, "FIRST"), s.words.phrase(variable, "_2nd"), s.words.phrase(exit, 3))
		step.Environment = []machine.Variable{{Name: "FIRST", Value: machine.Secret("one")}, {Name: "_2nd", Value: machine.Secret("two")}}
		require.Contains(t, unix(s.fail(t, step).Message), "one\ntwo")
	})
	t.Run("NoInput", func(t *testing.T) { s.noInput(t) })
	t.Run("Redacted", func(t *testing.T) { s.redacted(t) })
	if s.System == POSIX {
		t.Run("AnyValue", func(t *testing.T) { s.anyValue(t) })
	}
}

func unix(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(unix(text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// noInput: a program that reads ends at once, and does not eat the rest of the script.
func (s *suite) noInput(t *testing.T) {
	step := s.run(s.words.phrase(read), s.words.phrase(say, "after-reading"), s.words.phrase(exit, 4))
	state := s.fail(t, step)
	require.Equal(t, 4, state.ExitCode, "%+v", state)
	require.Contains(t, state.Message, "after-reading")
}

// printed are forms of the secret that any program may print.
func printed() []string {
	in := base64.StdEncoding.EncodeToString
	return []string{secret, in([]byte(secret)), in([]byte("x" + secret)), in([]byte("xy" + secret + "z")), url.QueryEscape(secret)}
}

func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, form := range redaction.Forms([]byte(secret)) {
		require.NotContains(t, text, string(form))
	}
}

// redacted: no form of a secret of the job or of its environment is in the receipt.
func (s *suite) redacted(t *testing.T) {
	var phrases []string
	for _, form := range printed() {
		phrases = append(phrases, s.words.phrase(say, strings.ReplaceAll(form, "%", s.percent())))
	}
	phrases = append(phrases, s.words.phrase(variable, "TOKEN"), s.words.phrase(exit, 5))
	step := s.run(phrases...)
	step.Environment = []machine.Variable{{Name: "TOKEN", Value: machine.Secret(secret)}}
	job := s.job(step)
	job.Secrets = []machine.Secret{machine.Secret(secret)}
	state := s.end(t, job)
	require.Equal(t, 5, state.ExitCode, "%+v", state)
	require.Contains(t, state.Message, redaction.Replacement)
	requireNoSecret(t, state.Message)
	requireNoSecret(t, receipt(t, s.second, job.ID).Message)
}

// percent is how the shell says a percent sign.
func (s *suite) percent() string {
	if s.System == Windows {
		return "%%"
	}
	return "%"
}

// anyValue: nothing in a value means anything to a shell.
func (s *suite) anyValue(t *testing.T) {
	value := "it's \"quoted\" $HOME `id` \\ !x; & | <größe>\ttab\nsecond line\n"
	path := s.path("value")
	step := s.run(`printf %s "$VALUE" >'` + path + `'`)
	step.Environment = []machine.Variable{{Name: "VALUE", Value: machine.Secret(value)}}
	s.succeed(t, step)
	s.holds(t, path, value)
}

// check is a check by a script of the host's own shell.
func (s *suite) check(timeout time.Duration, phrases ...string) machine.Script {
	return machine.Script{Text: machine.Confidential(s.words.lines(phrases...)), Timeout: timeout}
}

func testScriptChecks(t *testing.T, s *suite) {
	t.Run("ExitCodes", func(t *testing.T) { s.checkCodes(t) })
	t.Run("Environment", func(t *testing.T) { s.checkEnvironment(t) })
	t.Run("TooMuchOutput", func(t *testing.T) {
		state := see[machine.ScriptState](t, s.first, s.check(time.Minute, s.words.phrase(count, 5000), s.words.phrase(say, "the-end")))
		require.LessOrEqual(t, len(state.Output), 4<<10)
		require.Equal(t, "the-end", lastLine(state.Output))
	})
	t.Run("NoInput", func(t *testing.T) {
		state := see[machine.ScriptState](t, s.first, s.check(time.Minute, s.words.phrase(read), s.words.phrase(say, "after-reading")))
		require.Equal(t, "after-reading", lastLine(state.Output))
	})
	t.Run("TimeOut", func(t *testing.T) { s.checkTimeOut(t) })
}

// checkCodes: several scripts beside other checks, each with its own answer.
func (s *suite) checkCodes(t *testing.T) {
	checks := []machine.Check{machine.File{Path: s.path("never made")}}
	codes := []int{0, 1, 2, 77, 255}
	for _, code := range codes {
		checks = append(checks, s.check(time.Minute, s.words.phrase(say, fmt.Sprintf("code-%d", code)), s.words.phrase(exit, code)))
	}
	observation, err := s.first.Observe(limited(t), checks)
	require.NoError(t, err)
	require.Equal(t, machine.FileState{Kind: machine.FileAbsent}, observation.Answers[checks[0]])
	for i, code := range codes {
		state, ok := observation.Answers[checks[i+1]].(machine.ScriptState)
		require.True(t, ok, "%+v", observation.Answers[checks[i+1]])
		require.Equal(t, code, state.ExitCode)
		require.Equal(t, fmt.Sprintf("code-%d", code), lastLine(state.Output))
	}
}

func (s *suite) checkEnvironment(t *testing.T) {
	check := s.check(time.Minute, s.words.phrase(variable, "PLAIN"), s.words.phrase(variable, "TOKEN"))
	check.Environment = machine.EncodeEnvironment([]machine.Variable{
		{Name: "PLAIN", Value: machine.Secret("ab")}, {Name: "TOKEN", Value: machine.Secret(secret)},
	})
	state := see[machine.ScriptState](t, s.first, check)
	require.Zero(t, state.ExitCode)
	require.Contains(t, unix(state.Output), "ab\n"+redaction.Replacement)
	requireNoSecret(t, state.Output)
}

// checkTimeOut: a script that runs out of time is a Problem, ends with all that it has started, and holds up no other answer for long.
func (s *suite) checkTimeOut(t *testing.T) {
	path := s.path("check-too-late")
	slow := s.check(2*time.Second, s.words.phrase(sleep, 12), s.words.phrase(appendLine, path))
	quick := s.check(time.Minute, s.words.phrase(say, "quick"))
	file := machine.File{Path: s.path("never made")}
	began := time.Now()
	observation, err := s.first.Observe(limited(t), []machine.Check{slow, quick, file})
	require.NoError(t, err)
	require.IsType(t, machine.Problem{}, observation.Answers[slow])
	require.IsType(t, machine.FileState{}, observation.Answers[file])
	require.Equal(t, "quick", lastLine(observation.Answers[quick].(machine.ScriptState).Output))
	time.Sleep(time.Until(began.Add(16 * time.Second)))
	s.absent(t, path)
}
