package posix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

func asking(text string, variables ...machine.Variable) machine.Script {
	return machine.Script{Text: machine.Confidential(text), Timeout: 20 * time.Second, Environment: machine.EncodeEnvironment(variables)}
}

func variable(name, value string) machine.Variable {
	return machine.Variable{Name: name, Value: machine.Secret(value)}
}

func TestScriptCheck(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		file := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
		for text, want := range map[string]machine.ScriptState{
			"":                       {},
			"exit 3":                 {ExitCode: 3},
			"echo out; echo err >&2": {Output: "out"},
			"printf 'a\\nb'; exit 1": {ExitCode: 1, Output: "a\nb"},
			"printf 'a\\000b\\n'":    {Output: "ab"},
			"kill -9 $$":             {ExitCode: 137},
			"kill -USR1 $$":          {ExitCode: 138}, // The signals by which its end is told are its own again.
			"kill -USR2 $$":          {ExitCode: 140},
			"trap 'exit 5' USR1; kill -USR1 $$; sleep 9": {ExitCode: 5},
			"kill -TERM 0; sleep 9":                      {ExitCode: 143},
			"cat >/dev/null\n:":                          {}, // What it reads is the rest of its own text, and then nothing.
			"sleep 100 & echo started":                   {Output: "started"},
			"pwd; umask; [ -n \"$HOME\" ]":               {Output: "/\n0022"},
			"no-such-command":                            {ExitCode: 127},
		} {
			require.Equal(t, want, observe(t, m, asking(text)), "%q", text)
		}
		// With others in one pass.
		checks := []machine.Check{machine.File{Path: file}, asking("exit 1"), asking("exit 2"), asking("echo " + strings.Repeat("x", 40<<10) + "; exit 3"), machine.JobReceipt{ID: "none"}}
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		require.Equal(t, digestOf("x"), observation.Answers[checks[0]].(machine.FileState).SHA256)
		for i := 1; i < 4; i++ {
			require.Equal(t, i, observation.Answers[checks[i]].(machine.ScriptState).ExitCode)
		}
		require.Equal(t, machine.JobState{Phase: machine.JobAbsent}, observation.Answers[checks[4]])
	})
}

func TestScriptInterpreter(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		c := asking("echo $0 $1 $-")
		c.Interpreter = "/bin/sh -s -u one"
		require.Contains(t, observe(t, m, c).(machine.ScriptState).Output, "one")
		c.Interpreter = "/no/such/python3"
		require.Equal(t, failed("the host has no program /no/such/python3 to run the script with"), observe(t, m, c))
		c.Interpreter = "no-such-python3"
		require.Equal(t, failed("the host has no program no-such-python3 to run the script with"), observe(t, m, c))
		h.tool(t, "my-interpreter", "cat")
		own := asking("as it is", variable("PATH", h.bin+":/usr/bin:/bin"))
		own.Interpreter = "my-interpreter"
		require.Equal(t, machine.ScriptState{Output: "as it is"}, observe(t, m, own))
	})
}

func TestScriptEnvironment(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		// Names of our own variables among them: nothing of ours is led by the script's.
		var variables []machine.Variable
		for _, name := range []string{"n", "i", "T", "G", "L", "s", "since", "code", "PATH", "IFS", "HOME", "began"} {
			variables = append(variables, variable(name, "v"))
		}
		names := asking(`echo "$n" "$T" "$L" "$PATH"; exit 7`, variables...)
		names.Interpreter = "/bin/sh"
		require.Equal(t, machine.ScriptState{ExitCode: 7, Output: "v v v v"}, observe(t, m, names))
		secret := "it's a $ecret `value`\nof two lines"
		answer := observe(t, m, asking(`printf '%s|' "$A" "$B"; [ "$A" = "$C" ] && exit 5`, variable("A", secret), variable("B", "ab"), variable("C", secret)))
		require.Equal(t, machine.ScriptState{ExitCode: 5, Output: "[redacted]\n[redacted]|ab|"}, answer)
		require.Equal(t, "Failed", observe(t, m, asking("", variable("A-B", ""))).(machine.Problem).Reason)
		require.Equal(t, "Failed", observe(t, m, asking("", variable("UID", "1"))).(machine.Problem).Reason)
		require.Equal(t, "Failed", observe(t, m, asking("a\x00b")).(machine.Problem).Reason)
	})
}

// TestScriptQuoting: text and values come to every shell as they are.
func TestScriptQuoting(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		list := payloads()
		var variables []machine.Variable
		for i, payload := range list {
			variables = append(variables, variable(fmt.Sprintf("V%d", i), payload))
		}
		out := filepath.Join(t.TempDir(), "out")
		text := strings.Join(list, "\n")
		c := asking(text, append(variables, variable("ISTHMUS_OUT", out))...)
		h.tool(t, "write-all", `cat >"$ISTHMUS_OUT"; i=0; while [ "$i" -lt `+fmt.Sprint(len(list))+` ]; do eval "printf '%s\0' \"\$V$i\""; i=$((i+1)); done >"$ISTHMUS_OUT.env"`)
		c.Interpreter = filepath.Join(h.bin, "write-all")
		require.Equal(t, machine.ScriptState{}, observe(t, m, c))
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSuffix(text, "\n")+"\n", string(got))
		got, err = os.ReadFile(out + ".env")
		require.NoError(t, err)
		require.Equal(t, strings.Join(list, "\x00")+"\x00", string(got))

		// And the same in a job.
		require.NoError(t, os.Remove(out))
		succeed(t, m, testJob("quoting", machine.RunScript{Interpreter: c.Interpreter, Text: machine.Secret(text), Environment: append(variables, variable("ISTHMUS_OUT", out))}))
		again, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSuffix(text, "\n")+"\n", string(again))
		again, err = os.ReadFile(out + ".env")
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestScriptOutOfTime(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		pids := filepath.Join(t.TempDir(), "pids")
		slow := asking(`trap '' TERM; (echo $$ >>` + pids + `; sleep 300) & echo $! >>` + pids + `; while :; do sleep 300; done`)
		slow.Timeout = time.Second
		polite := asking("sleep 300")
		polite.Timeout = time.Second
		// It leaves its group and holds the output.
		gone := asking("setsid sleep 300 & echo $! >" + pids + ".gone; sleep 0.3; echo said")
		gone.Timeout = time.Second
		file := machine.File{Path: pids}
		checks := []machine.Check{slow, polite, gone, asking("exit 4"), file}
		began := time.Now()
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		require.Less(t, time.Since(began), 20*time.Second)
		for _, check := range checks[:3] {
			require.Equal(t, "Timeout", observation.Answers[check].(machine.Problem).Reason)
		}
		require.Equal(t, machine.ScriptState{ExitCode: 4}, observation.Answers[checks[3]])
		require.IsType(t, machine.FileState{}, observation.Answers[file])
		kill(t, fields(t, pids+".gone")[0])
		list := fields(t, pids)
		require.Len(t, list, 2)
		for _, pid := range list {
			requireGone(t, pid)
		}
	})
}

// TestScriptsShareThePassesTime: many slow ones do not delay the answer beyond its deadline.
func TestScriptsShareThePassesTime(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		checks := []machine.Check{machine.File{Path: "/nowhere"}}
		for i := range 9 {
			checks = append(checks, asking(fmt.Sprintf("sleep 60; exit %d", i)))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 16*time.Second)
		defer cancel()
		observation, err := m.Observe(ctx, checks)
		require.NoError(t, err)
		require.Equal(t, machine.FileState{Kind: machine.FileAbsent}, observation.Answers[checks[0]])
		for _, check := range checks[1:] {
			require.Equal(t, "Timeout", observation.Answers[check].(machine.Problem).Reason)
		}
	})
}

func TestScriptOutputIsBounded(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		endless := asking("while :; do echo tell-no-one tell-no-one tell-no-one; done", variable("A", "tell-no-one"))
		endless.Timeout = time.Second
		require.Equal(t, "Timeout", observe(t, m, endless).(machine.Problem).Reason)
		for size := 4090; size < 4130; size += 3 {
			loud := asking(fmt.Sprintf(`i=0; while [ $i -lt 600 ]; do printf '%%s' "$A"; i=$((i+1)); done; printf '%%0%dd' 0`, size), variable("A", "tell-no-one"))
			answer := observe(t, m, loud).(machine.ScriptState)
			require.LessOrEqual(t, len(answer.Output), maxScriptOutput)
			require.False(t, strings.ContainsAny(answer.Output, "lno-"), "half a value was shown")
		}
	})
}

// TestScriptsLeaveNoProcesses: what waited beside them is gone with them, long before its time.
func TestScriptsLeaveNoProcesses(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		short := asking("exit 1")
		short.Timeout = time.Minute // It has a timer of its own.
		checks := []machine.Check{short, asking("exit 2"), asking("sleep 100 & exit 3"), asking(""), asking("exit 5"), asking("exit 6")}
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		for i, want := range []int{1, 2, 3, 0, 5, 6} {
			require.Equal(t, want, observation.Answers[checks[i]].(machine.ScriptState).ExitCode)
		}
		requireNothingLeft(t, h.bin)
	})
}

// TestScriptIsToldOfItsEnd: TERM comes first, to all that a script has begun and has left in its group.
func TestScriptIsToldOfItsEnd(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := t.TempDir()
		polite := func(name string) machine.Script {
			return asking(fmt.Sprintf(`trap ': >%s/%s; exit' TERM; : >%s/%s-began; while :; do sleep 0.1; done`, dir, name, dir, name))
		}
		own := polite("own")
		own.Timeout = time.Second
		checks := []machine.Check{own, polite("all")}
		ctx, cancel := context.WithTimeout(context.Background(), scriptGrace+3*time.Second)
		defer cancel()
		observation, err := m.Observe(ctx, checks)
		require.NoError(t, err)
		for _, check := range checks {
			require.Equal(t, "Timeout", observation.Answers[check].(machine.Problem).Reason)
		}
		require.FileExists(t, filepath.Join(dir, "own"))
		require.FileExists(t, filepath.Join(dir, "all"))
		requireNothingLeft(t, h.bin)
	})
}

// TestScriptWithoutSetsid: there is no group to end, but the first process is.
func TestScriptWithoutSetsid(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		if h.name == "busybox" {
			return // It has one, whatever is hidden.
		}
		hide(t, h, "setsid")
		slow := asking(`trap '' TERM; exec sleep 1000`)
		slow.Timeout = time.Second
		holds := asking("sleep 30 & echo started")
		holds.Timeout = time.Second
		checks := []machine.Check{asking("echo yes; exit 3"), slow, asking("exit 4"), holds}
		began := time.Now()
		observation, err := m.Observe(testContext(t), checks)
		require.NoError(t, err)
		require.Less(t, time.Since(began), 25*time.Second)
		require.Equal(t, "Timeout", observation.Answers[holds].(machine.Problem).Reason)
		require.Equal(t, machine.ScriptState{ExitCode: 3, Output: "yes"}, observation.Answers[checks[0]])
		require.Equal(t, "Timeout", observation.Answers[slow].(machine.Problem).Reason)
		require.Equal(t, machine.ScriptState{ExitCode: 4}, observation.Answers[checks[2]])
	})
}

// TestScriptsHeldOutputKeepsNoOther: what one script left behind in another session costs the others nothing.
func TestScriptsHeldOutputKeepsNoOther(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		pids := filepath.Join(t.TempDir(), "pids")
		var checks []machine.Check
		for i := range 3 * scriptLanes {
			text := fmt.Sprintf("echo %d; exit %d", i, i)
			if i >= scriptLanes && i < 2*scriptLanes-1 {
				text = fmt.Sprintf("setsid sleep 300 & echo $! >>%s; sleep 0.3; echo said %d", pids, i)
			}
			checks = append(checks, asking(text))
		}
		ctx, cancel := context.WithTimeout(context.Background(), scriptGrace+3*time.Second)
		defer cancel()
		observation, err := m.Observe(ctx, checks)
		for _, pid := range fields(t, pids) {
			kill(t, pid)
		}
		require.NoError(t, err)
		for i, check := range checks {
			if i >= scriptLanes && i%scriptLanes < scriptLanes-1 {
				require.Equal(t, "Timeout", observation.Answers[check].(machine.Problem).Reason, i)
			} else {
				require.Equal(t, machine.ScriptState{ExitCode: i, Output: fmt.Sprint(i)}, observation.Answers[check])
			}
		}
		requireNothingLeft(t, h.bin)
	})
}

// TestHalfAWideSecret: the host has cut the output within a value in UTF-16. Half of its bytes are no text and are not shown.
func TestHalfAWideSecret(t *testing.T) {
	environment := []machine.Variable{variable("A", "password")}
	wide := "w\x00o\x00r\x00d\x00" + strings.Repeat(".\x00", 2000)
	kept := maxScriptOutput + margin(environment)
	output := scriptOutput(wide+strings.Repeat("\x00", kept-len(wide)), environment)
	require.NotContains(t, output, "d.")
	require.Contains(t, output, "....")
	require.Equal(t, "[redacted]", scriptOutput("p\x00a\x00s\x00s\x00w\x00o\x00r\x00d\x00", environment))
}
