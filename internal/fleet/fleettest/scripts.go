package fleettest

import (
	"fmt"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Script is what the model does when a script with a certain text is run. It
// acts on the files of the host through its run, and must call no method of the Host.
type Script func(run *ScriptRun) (exitCode int, output string)

// ScriptRun is one run of a script.
type ScriptRun struct {
	Environment map[string]string
	host        *Host
}

// Read a file of the host; false: there is none.
func (r *ScriptRun) Read(path string) (string, bool) {
	if file := r.host.files[path]; file != nil {
		return string(file.Content), true
	}
	return "", false
}

// Write a file of the host.
func (r *ScriptRun) Write(path, content string) {
	r.host.files[path] = &File{Kind: machine.FileRegular, Content: []byte(content)}
}

// Remove a file of the host.
func (r *ScriptRun) Remove(path string) { delete(r.host.files, path) }

// SetScript says what a script with that text does.
func (h *Host) SetScript(text string, script Script) {
	h.locked(func() { h.scripts[text] = script })
}

// runText runs a script; one that no test has set is not found, as by a shell.
func (h *Host) runText(text string, environment []machine.Variable) (int, string) {
	run := &ScriptRun{Environment: map[string]string{}, host: h}
	for _, v := range environment {
		run.Environment[v.Name] = string([]byte(v.Value))
	}
	script := h.scripts[text]
	if script == nil {
		return 127, "not found"
	}
	return script(run)
}

func (h *Host) scriptState(check machine.Script) machine.Answer {
	if check.Timeout <= 0 {
		return machine.Problem{Reason: "Failed", Message: "the script has no time"}
	}
	environment := machine.DecodeEnvironment(check.Environment)
	code, output := h.runText(string([]byte(check.Text)), environment)
	var values []machine.Secret
	for _, v := range environment {
		if len(v.Value) >= 6 { // shorter ones are in every other word
			values = append(values, v.Value)
		}
	}
	return machine.ScriptState{ExitCode: code, Output: redact(output, values)}
}

// runScript is a step that is not idempotent: the journal has each run of it.
func (h *Host) runScript(s machine.RunScript) error {
	text := string([]byte(s.Text))
	h.note("run %s", strings.TrimSpace(text))
	if code, output := h.runText(text, s.Environment); code != 0 {
		return fmt.Errorf("exit code %d: %s", code, output)
	}
	return nil
}
