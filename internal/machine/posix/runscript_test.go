package posix

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

func TestRunScript(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		out := filepath.Join(t.TempDir(), "out")
		secret := "it's a $ecret"
		job := testJob("run",
			machine.RunScript{Text: machine.Secret(`printf %s "$A" >"$OUT"; umask`), Environment: []machine.Variable{variable("A", secret), variable("OUT", out)}},
			machine.RunScript{Text: machine.Secret("echo now $A; echo on stderr >&2\n[ -z \"$OUT\" ] && exit 9\n"), Environment: []machine.Variable{variable("A", secret)}},
			reload,
		)
		state := finish(t, m, job)
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, 1, state.Step)
		require.Equal(t, 9, state.ExitCode)
		require.Equal(t, "0022\nnow [redacted]\non stderr\nthe script ended with exit code 9", state.Message)
		written, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, secret, string(written))
		left, err := exec.Command("grep", "-rlF", "-e", "ecret", m.options.StateDir).Output()
		require.Equal(t, 1, err.(*exec.ExitError).ExitCode(), "left behind in %s", left)

		state = finish(t, m, testJob("missing", machine.RunScript{Interpreter: "/no/such/perl -w", Text: machine.Secret("x")}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, "the host has no program /no/such/perl to run the script with", state.Message)
	})
}

// TestSecretsHideInTheirForms: encoded in the ways in which programs print them.
func TestSecretsHideInTheirForms(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		secret := `p"ss wörd?/+`
		job := testJob("forms", machine.RunScript{
			Text:        machine.Secret(`printf '%s\n' "$A" | base64; printf %s "$A" | base64 | tr '/+' '_-'; printf 'x%s' "$A" | base64; echo 'p%22ss%20w%C3%B6rd%3F%2F%2B {"a":"p\"ss wörd?/+"}'; exit 1`),
			Environment: []machine.Variable{variable("A", secret)},
		})
		state := finish(t, m, job)
		for _, trace := range []string{"cCJz", "w7Zy", "wrd", "ss", "C3"} {
			require.NotContains(t, state.Message[:len(state.Message)-len("\nthe script ended with exit code 1")], trace)
		}
		require.Contains(t, state.Message, "[redacted]")
	})
}

// TestTheLineEndOfASecretIsNoPartOfIt: an editor or echo has left it, and shells take it off. It is in no encoded form.
func TestTheLineEndOfASecretIsNoPartOfIt(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		const text = `A=$(printf '%s' "$A"); printf %s "$A" | base64; printf 'user:%s' "$A" | base64; echo 'p%40ss%2Fword'`
		environment := []machine.Variable{variable("A", "p@ss/word\n")}
		state := finish(t, m, testJob("forms", machine.RunScript{Text: machine.Secret(text + "; exit 1"), Environment: environment}))
		require.Equal(t, "[redacted]\ndXNlcjp[redacted]Q=\n[redacted]\nthe script ended with exit code 1", state.Message)
		require.Equal(t, "[redacted]\ndXNlcjp[redacted]Q=\n[redacted]", observe(t, m, asking(text, environment...)).(machine.ScriptState).Output)
	})
}
