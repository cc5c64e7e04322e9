package posix

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	// scriptLanes is how many scripts of one pass run beside each other.
	scriptLanes = 4
	// scriptGrace is how long before the end of its time a pass must have its answers: a
	// script that is told to end may take two seconds, and what holds its output one more.
	scriptGrace = 4 * time.Second
	// maxScriptOutput is what is kept of a script's output, in bytes.
	maxScriptOutput = 4 << 10
	// maxHidden is the longest value that is hidden whole where the output was cut.
	maxHidden = 64 << 10
	// scriptFrame is room for the last line of an answer.
	scriptFrame = 128
)

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// kept are the variables that a shell lets nobody set, or not to any value.
	kept = []string{"UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO", "OPTIND"}
)

func validScript(interpreter, text string, variables []machine.Variable) error {
	if !oneLine(interpreter) || strings.HasPrefix(strings.TrimSpace(interpreter), "-") {
		return errors.New("the interpreter is a program and its arguments, on one line")
	}
	if strings.ContainsRune(text, 0) {
		return errors.New("the script holds a NUL byte, which no shell can pass on")
	}
	for _, v := range variables {
		switch {
		case !variableName.MatchString(v.Name):
			return fmt.Errorf("%q is not the name of a variable", v.Name)
		case slices.Contains(kept, v.Name):
			return fmt.Errorf("the variable %s belongs to the shell and cannot be set", v.Name)
		case strings.ContainsRune(string(v.Value), 0):
			return fmt.Errorf("the variable %s holds a NUL byte", v.Name)
		}
	}
	return nil
}

// userScript writes two functions: "there", with a suffix, tells whether the interpreter is,
// and "script" turns the shell that calls it into the interpreter, with the text on its standard
// input. Variables are exported last, and only then: whatever they are called,
// nothing of ours is led by them. $L starts a session, or is empty.
func (s *script) userScript(suffix, interpreter, text, end string, variables []machine.Variable) {
	words := strings.Fields(interpreter)
	program := quote(words[0])
	s.line("there%s() {", suffix)
	if strings.Contains(words[0], "/") {
		s.line("[ -f %s ] && [ -x %s ]", program, program)
	} else {
		s.line("(")
		for _, v := range variables {
			if v.Name == "PATH" {
				s.line("PATH=%s", quote(string(v.Value)))
			}
		}
		s.line("command -v %s >/dev/null 2>&1 )", program)
	}
	s.line("}")
	for i, w := range words {
		words[i] = quote(w)
	}
	s.line("script%s() {", suffix)
	s.line("home")
	s.line("umask 022")
	s.line("cd /")
	s.line("set -- $L %s", strings.Join(words, " "))
	for _, v := range variables {
		s.line("export %s=%s", v.Name, quote(string(v.Value)))
	}
	s.line(`exec "$@" <<'%s'`, end)
	s.WriteString(text)
	if !strings.HasSuffix(text, "\n") {
		s.line("")
	}
	s.line("%s", end)
	s.line("}")
}

func validCheck(c machine.Script) error {
	if c.Timeout <= 0 {
		return errors.New("a script needs a timeout")
	}
	return validScript(c.Interpreter, string(c.Text), machine.DecodeEnvironment(c.Environment))
}

// compileScripts runs the scripts in lanes, for as long as the pass has time.
func (m *Machine) compileScripts(ctx context.Context, r *request, scripts []machine.Script) {
	budget := m.options.RequestTimeout
	if deadline, bounded := ctx.Deadline(); bounded {
		budget = time.Until(deadline)
	}
	end := r.nonce + "_room"
	r.line(`printf '\n%%s scripts\n' "$n"`)
	r.use("scripts")
	r.line("find_leader")
	r.line(`$L %s -s "$n" "$L" <<'%s' 2>/dev/null`, m.shell, end)
	r.line("n=$1 L=$2 G=${2:+-}")
	r.use("process", "home", "script")
	r.line("mind %d", max(1, int64((budget-scriptGrace)/time.Second)))
	m.compileLanes(r, scripts)
	r.line("leave")
	r.line("%s", end)
}

// compileLanes writes what runs in the room.
func (m *Machine) compileLanes(r *request, scripts []machine.Script) {
	lanes := make([]script, min(scriptLanes, len(scripts)))
	for i, c := range scripts {
		variables := machine.DecodeEnvironment(c.Environment)
		r.userScript("_"+itoa(i), m.interpreter(c.Interpreter), string(c.Text), r.nonce+"_text", variables)
		lanes[i%len(lanes)].line("ask %d %d %d", i, seconds(c.Timeout), maxScriptOutput+margin(variables)+scriptFrame)
	}
	for i := range lanes {
		r.line("lane_%d() {\nlane\n%s}", i, lanes[i].String())
	}
	// Each lane but the last writes to a pipe, which holds what a few scripts say, and is read in its turn.
	chain := "lane_" + itoa(len(lanes)-1)
	for i := len(lanes) - 2; i >= 0; i-- {
		chain = fmt.Sprintf("lane_%d | { %s; rest; }", i, chain)
	}
	r.line("{ %s; } </dev/null", chain)
}

// interpreter is the machine's own shell where none is named.
func (m *Machine) interpreter(named string) string {
	if strings.TrimSpace(named) == "" {
		return m.shell
	}
	return named
}

func firstWord(interpreter string) string { return strings.Fields(interpreter + " /bin/sh")[0] }

func seconds(d time.Duration) int64 { return max(1, int64((d+time.Second-1)/time.Second)) }

// answerScripts reads what stands after the word for scripts.
func answerScripts(text, nonce string, q *questions) {
	for i, c := range q.scripts {
		q.refused[c] = scriptAnswer(text, nonce, i, c)
	}
}

func scriptAnswer(text, nonce string, i int, c machine.Script) machine.Answer {
	_, text, begun := strings.Cut("\n"+text, "\n"+nonce+" script "+itoa(i)+"\n")
	// The next frame is its end, unless what filters its output was ended.
	output, frame, _ := strings.Cut("\n"+text, "\n"+nonce+" ")
	frame, _, whole := strings.Cut(frame, "\n")
	word, ended := strings.CutPrefix(frame, "ended "+itoa(i)+" ")
	if !begun || !ended || !whole {
		return machine.Problem{Reason: "Timeout", Message: "the script left something running that holds its output open; it was ended"}
	}
	switch word {
	case "late":
		return machine.Problem{Reason: "Timeout", Message: "the script did not end within " + c.Timeout.String() + ", or the look at the host had no more time for it"}
	case "missing":
		return failed("the host has no program " + excerpt(firstWord(c.Interpreter)) + " to run the script with")
	}
	code, err := strconv.Atoi(word)
	if err != nil || code < 0 || code > 255 {
		return noAnswer
	}
	// The frame begins with a line of its own, and so does its end.
	output = strings.TrimPrefix(output, "\n")
	return machine.ScriptState{ExitCode: code, Output: scriptOutput(output, machine.DecodeEnvironment(c.Environment))}
}
