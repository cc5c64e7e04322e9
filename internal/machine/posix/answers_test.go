package posix

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// hostile answers each request by a function of its script.
type hostile func(request transport.Request, nonce string) transport.Result

func (h hostile) Run(_ context.Context, request transport.Request) (transport.Result, error) {
	var text strings.Builder
	buffer := make([]byte, 1<<20)
	for {
		n, err := request.Stdin.Read(buffer)
		text.Write(buffer[:n])
		// An input that stays open ends with the request.
		if err != nil || strings.HasSuffix(text.String(), "isthmus; exit\n") {
			break
		}
	}
	_, nonce, _ := strings.Cut(text.String(), "\nn=")
	nonce, _, _ = strings.Cut(nonce, "\n")
	return h(request, nonce), nil
}

func (h hostile) Close() error { return nil }

var allChecks = []machine.Check{
	machine.File{Path: "/f"}, machine.File{Path: "/g"}, machine.Unit{Name: "u.service"}, machine.Unit{Name: "v.service"},
	machine.Mark{Subject: "s"}, machine.JobReceipt{ID: "j"}, firstScript, secondScript,
}

var firstScript, secondScript = asking("first", variable("A", "hunter2")), asking("second")

func hear(t *testing.T, body string) machine.Observation {
	t.Helper()
	m := New(hostile(func(_ transport.Request, nonce string) transport.Result {
		body := strings.ReplaceAll(body, "NONCE", nonce)
		return transport.Result{Stdout: []byte("Welcome!\nno newline at the end\n" + nonce + " begin\n" + body + "\n" + nonce + " end\nBye")}
	}), Options{})
	observation, err := m.Observe(context.Background(), allChecks)
	require.NoError(t, err)
	require.Len(t, observation.Answers, len(allChecks))
	return observation
}

const statLine = "81a4|1|2|3|2026-01-01 00:00:00.0 +0000|2026-01-01 00:00:00.0 +0000|0|0|644|root|root"

func TestAnswers(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	units := "NONCE units\nLoadState=loaded\nActiveState=active\nMainPID=7\nInvocationID=00000000000000000000000000000000\n\n" +
		"LoadState=not-found\nActiveState=inactive\n\nNONCE units 0\n"
	observation := hear(t, "b boot\nf 0 "+statLine+"\n"+sum+"  /f\na 1\n"+units+
		"m 0 uid u\nm 0 cluster c\nm 0 object o/p q\nm 0 end \nj 0 Failed 0000000000000000003 boot begun ended 4 5\no 0 oh\no 0  no\n"+
		"\nNONCE scripts\n\nNONCE script 0\na 0\nhunter2\n\nNONCE ended 0 3\n\nNONCE script 1\n\nNONCE ended 1 late\n")
	require.Equal(t, "boot", observation.BootID)
	require.Equal(t, map[machine.Check]machine.Answer{
		machine.File{Path: "/f"}:        machine.FileState{Kind: machine.FileRegular, SHA256: sum, Size: 3, Mode: 0o644, Owner: "root", Group: "root"},
		machine.File{Path: "/g"}:        machine.FileState{Kind: machine.FileAbsent},
		machine.Unit{Name: "u.service"}: machine.UnitState{Load: "loaded", Active: "active", MainPID: 7},
		machine.Unit{Name: "v.service"}: machine.UnitState{Load: "not-found", Active: "inactive"},
		machine.Mark{Subject: "s"}:      machine.MarkState{Exists: true, Owner: machine.Owner{Cluster: "c", UID: "u", Object: "o/p q"}},
		machine.JobReceipt{ID: "j"}:     machine.JobState{Phase: machine.JobFailed, Epoch: 3, BootID: "boot", Started: "begun", Finished: "ended", ExitCode: 4, Step: 5, Message: "oh\n no"},
		firstScript:                     machine.ScriptState{ExitCode: 3, Output: "a 0\n[redacted]"},
		secondScript:                    machine.Problem{Reason: "Timeout", Message: "the script did not end within 20s, or the look at the host had no more time for it"},
	}, observation.Answers)
}

// TestNonsense: whatever a host says, every check has an answer, and an
// unanswered one is a Problem.
func TestNonsense(t *testing.T) {
	for check, answer := range hear(t, "").Answers {
		require.IsType(t, machine.Problem{}, answer, "%v", check)
	}
	for _, body := range []string{
		"f 0\n", "f 99 " + statLine + "\n", "f -1 x\n", "f 0 " + statLine + "\n", "f 0 zz|||||||||||\n", "h 0 short\n",
		"m 0 uid u\n", "j 0 Succeeded\n", "j 0 Succeeded x y z a b c\n", "j 0 Nonsense 1 b s e 0 0\n", "NONCE units\nLoadState=loaded\n",
		"NONCE units\nFailed to connect to bus\n\nNONCE units 1\n", "p 0 Failed \x1b[31m\n", "r\n",
		"\nNONCE scripts\n", "\nNONCE scripts\n\nNONCE script 0\nx", "\nNONCE scripts\n\nNONCE script 0\n\nNONCE ended 0 0", "\nNONCE scripts\n\nNONCE script 0\n\nNONCE ended 0 -1\n",
		"\nNONCE scripts\n\nNONCE script 0\n\nNONCE ended 0 256\n", "\nNONCE scripts\n\nNONCE script 7\n\nNONCE ended 7 0\n", "\nNONCE ended 0 0\n", "\nNONCE scripts\n\nNONCE script 0\n\nNONCE ended 1 0\n",
		"\nNONCE scripts\n\nNONCE script 0\n\nNONCE ended 0 missing\n",
	} {
		for check, answer := range hear(t, body).Answers {
			require.IsType(t, machine.Problem{}, answer, "%q: %v", body, check)
		}
	}
	require.Equal(t, machine.Problem{Reason: "NotSupported", Message: "the host does not run systemd"},
		hear(t, "NONCE units\nSystem has not been booted with systemd as init system\n\nNONCE units 1\n").Answers[machine.Unit{Name: "u.service"}])
	require.Equal(t, denied, hear(t, "p 0 AccessDenied\n").Answers[machine.File{Path: "/f"}])

	// What held its output open has no end, and the next one's is not its own.
	answers := hear(t, "\nNONCE scripts\n\nNONCE script 0\nhunter2\nNONCE script 1\nfine\nNONCE ended 1 0\n").Answers
	require.Equal(t, "Timeout", answers[firstScript].(machine.Problem).Reason)
	require.Equal(t, machine.ScriptState{Output: "fine"}, answers[secondScript])

	source := rand.New(rand.NewPCG(3, 4))
	words := []string{"f", "h", "a", "p", "r", "m", "n", "d", "j", "o", "D", "b", "0", "1", "99", " ", " ", " ", "\n", "\n", statLine, "uid u", "end ", "NONCE", " units", " scripts\n", " script ", " ended ", "late", "LoadState=x", "Absent", "Failed 1 b s e 1 1", "\x00", "\xff"}
	for range 3000 {
		var body strings.Builder
		for range source.IntN(30) {
			body.WriteString(words[source.IntN(len(words))])
		}
		hear(t, body.String())
	}
}

// TestFlood: a host that prints for ever is cut off, and no answer is taken from the rest.
func TestFlood(t *testing.T) {
	m := New(hostile(func(request transport.Request, nonce string) transport.Result {
		require.Positive(t, request.MaxStdout)
		require.LessOrEqual(t, request.MaxStdout, 1<<20)
		frame := "\n" + nonce + " begin\na 0\n"
		end := "\n" + nonce + " end\n"
		out := frame + strings.Repeat("x", request.MaxStdout-len(frame)-len(end)) + end
		return transport.Result{Stdout: []byte(out), Truncated: true}
	}), Options{})
	observation, err := m.Observe(context.Background(), allChecks)
	require.NoError(t, err)
	for check, answer := range observation.Answers {
		require.Equal(t, "TooLarge", answer.(machine.Problem).Reason, "%v", check)
	}
}

// TestNoShell: what stands in the place of an answer when there is none.
func TestNoShell(t *testing.T) {
	answer := func(result transport.Result, options Options) error {
		m := New(hostile(func(transport.Request, string) transport.Result { return result }), options)
		_, err := m.Facts(context.Background())
		require.Error(t, err)
		return err
	}
	become := Options{Become: &Become{}, LoginUser: "ops"}
	for _, said := range []string{"sudo: a password is required", "Sorry, user ops is not allowed to execute '/bin/sh -s' as root on ledger.", "sudo: command not found: /bin/sh\n"} {
		refused := &transport.CredentialsError{}
		require.ErrorAs(t, answer(transport.Result{ExitCode: 1, Stderr: []byte(said)}, become), &refused, said)
		require.Equal(t, "ops", refused.User)
	}
	said := "sudo: unknown user ghost\nsudo: error initializing audit plugin sudoers_audit\n"
	require.ErrorContains(t, answer(transport.Result{ExitCode: 1, Stderr: []byte(said)}, become),
		"sudo: unknown user ghost; sudo: error initializing audit plugin")
	require.EqualError(t, answer(transport.Result{ExitCode: 1, Stdout: []byte("This account is\x07 not available.\n")}, Options{}),
		"ask for facts: the host ran no shell (exit code 1): This account is  not available.")
	refused := &transport.CredentialsError{}
	require.False(t, errors.As(answer(transport.Result{ExitCode: 127, Stderr: []byte("sh: sudo: not found")}, become), &refused))
	m := New(hostile(func(_ transport.Request, nonce string) transport.Result {
		return transport.Result{Stdout: []byte("\n" + nonce + " begin\nboot x\n")}
	}), Options{})
	_, err := m.Start(context.Background(), testJob("x", machine.ReloadUnits{}))
	lost := &transport.LostError{}
	require.ErrorAs(t, err, &lost, "a shell that ended early may have begun the job")
}

// TestCommand: the user to become is one word.
func TestCommand(t *testing.T) {
	m := New(nil, Options{})
	require.Equal(t, "/bin/sh -s", m.command(m.readShell(&request{}, largeScript)))
	require.Equal(t, `/bin/sh -c 'eval "$(cat)"'`, m.command(m.readShell(&request{}, largeScript+1)))
	require.Equal(t, "/bin/sh -s", m.command(m.readShell(&request{lasting: true}, largeScript+1)))
	require.Equal(t, "sudo -n -H -u 'root' -- /bin/sh -s", New(nil, Options{Become: &Become{}}).command("/bin/sh -s"))
}

// TestSecretsDoNotFormat: a job that is printed by mistake tells nothing.
func TestSecretsDoNotFormat(t *testing.T) {
	job := testJob("x", machine.PutFile{Path: "/f", Content: machine.Secret("hunter2"), Mode: 0o77777})
	_, err := New(nil, Options{}).Start(context.Background(), job)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2")
}
