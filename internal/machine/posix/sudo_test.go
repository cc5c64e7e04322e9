package posix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// sudoTool speaks as sudo does: it knows the options, asks on the error stream, and
// reads one line. What it is to do is in $answer; each password is written down.
const sudoTool = `while [ "$1" != -- ]; do
	case $1 in -p) prompt=$2; shift ;; -u) shift ;; -n) none=1 ;; esac
	shift
done
shift
tries=0
ask() {
	printf '%%s' "$prompt" >&2
	IFS= read -r given || { echo >&2; echo "sudo: no password was provided" >&2; exit 1; }
	echo "$given" >>%[1]s
	echo >&2
}
case %[2]s in
let) exec "$@" ;;
right) echo "We trust you have received the usual lecture." >&2; ask; [ "$given" = sesame ] || exit 9; exec "$@" ;;
wrong) ask; sleep 0.2; echo "Sorry, try again." >&2; ask; exit 9 ;;
refuse) ask; echo "Sorry, user ops is not allowed to execute '$*' as root on ledger." >&2; exit 1 ;;
tty) echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1 ;;
expired) ask; echo "sudo: Account or password is expired, reset your password and try again" >&2; printf 'Current password: ' >&2; ask; exit 9 ;;
locked) ask; echo "sudo: account validation failure, is your account locked?" >&2; exit 1 ;;
other) printf '[sudo] password for ops: ' >&2; IFS= read -r given && echo "$given" >>%[1]s; exit 1 ;;
silent) exec sleep 20 ;;
slow) echo "We trust you have received the usual lecture." >&2; ask; exec sleep 20 ;;
sudoers) ask; echo "ops is not in the sudoers file." >&2; exit 1 ;;
esac
`

func TestSudoWithPassword(t *testing.T) {
	h := hosts(t)[0]
	for answer, want := range map[string]struct {
		given    string
		messages []string
	}{
		"let":     {},
		"right":   {given: "sesame\n"},
		"wrong":   {"sesame\n", []string{"the password is wrong", "become-password"}},
		"refuse":  {"sesame\n", []string{"not allowed to execute", "allow the user /bin/sh as root in sudoers"}},
		"tty":     {"", []string{"you must have a tty", "remove requiretty"}},
		"expired": {"sesame\n", []string{"password is expired", "set a new password"}},
		"locked":  {"sesame\n", []string{"is your account locked?", "unlock the account"}},
		"sudoers": {"sesame\n", []string{"not in the sudoers file", "in sudoers"}},
	} {
		t.Run(answer, func(t *testing.T) {
			seen := filepath.Join(t.TempDir(), "seen")
			h.tool(t, "sudo", fmt.Sprintf(sudoTool, seen, answer))
			m := New(h, Options{StateDir: t.TempDir(), LoginUser: "ops", Become: &Become{Password: machine.Secret("sesame\n")}})
			m.shell = h.shell
			_, err := m.Facts(testContext(t))
			given, _ := os.ReadFile(seen)
			require.Equal(t, want.given, string(given))
			if want.messages == nil {
				require.NoError(t, err)
				_, err = m.Observe(testContext(t), []machine.Check{asking("exit 3"), machine.File{Path: "/x" + strings.Repeat("y", largeScript)}})
				require.NoError(t, err)
				return
			}
			refused := &transport.CredentialsError{}
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "ops", refused.User)
			for _, message := range want.messages {
				require.ErrorContains(t, err, message)
			}
			require.NotContains(t, fmt.Sprintf("%v %+v", err, m.options), "sesame")
			// It is not tried again.
			_, err = m.Observe(testContext(t), nil)
			require.ErrorAs(t, err, &refused)
			again, _ := os.ReadFile(seen)
			require.Equal(t, want.given, string(again))
		})
	}
}

// TestSudoInOtherWords: a password is given to nobody who does not ask in our words. A request that has
// too little time to be sure of that says what it heard, and the next one tries again.
func TestSudoInOtherWords(t *testing.T) {
	h := hosts(t)[0]
	seen := filepath.Join(t.TempDir(), "seen")
	h.tool(t, "sudo", fmt.Sprintf(sudoTool, seen, "other"))
	m := New(h, Options{StateDir: t.TempDir(), Become: &Become{Password: machine.Secret("sesame")}})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := m.Facts(ctx)
	lost, refused := &transport.LostError{}, &transport.CredentialsError{}
	require.ErrorAs(t, err, &lost)
	require.ErrorContains(t, err, "it said: [sudo] password for ops:")

	m.sudo.patience = 200 * time.Millisecond
	for range 2 {
		_, err = m.Facts(testContext(t))
		require.ErrorAs(t, err, &refused)
		require.ErrorContains(t, err, "it said: [sudo] password for ops:")
	}
	require.NoFileExists(t, seen)
}

// TestSudoThatIsSlow: a directory service that is down refuses nobody, so nothing is final.
func TestSudoThatIsSlow(t *testing.T) {
	for _, answer := range []string{"silent", "slow"} {
		t.Run(answer, func(t *testing.T) {
			h := hosts(t)[0]
			h.tool(t, "sudo", fmt.Sprintf(sudoTool, filepath.Join(t.TempDir(), "seen"), answer))
			m := New(h, Options{StateDir: t.TempDir(), Become: &Become{Password: machine.Secret("sesame")}})
			m.sudo.patience = 200 * time.Millisecond
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := m.Facts(ctx)
			require.Error(t, err)
			refused := &transport.CredentialsError{}
			require.NotErrorAs(t, err, &refused)
			known, _ := m.sudo.known()
			require.False(t, known)
		})
	}
}

// TestTenRequestsAreOneAttempt with a password that is wrong.
func TestTenRequestsAreOneAttempt(t *testing.T) {
	h := hosts(t)[0]
	seen := filepath.Join(t.TempDir(), "seen")
	h.tool(t, "sudo", fmt.Sprintf(sudoTool, seen, "wrong"))
	m := New(h, Options{StateDir: t.TempDir(), Become: &Become{Password: machine.Secret("sesame")}})
	var group sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		group.Go(func() { _, errs[i] = m.Facts(testContext(t)) })
	}
	group.Wait()
	for _, err := range errs {
		refused := &transport.CredentialsError{}
		require.ErrorAs(t, err, &refused)
	}
	require.Equal(t, []string{"sesame"}, fields(t, seen))
}

func TestSudoWithoutPassword(t *testing.T) {
	m := New(nil, Options{Become: &Become{}, LoginUser: "ops"})
	require.ErrorContains(t, m.noShell("x", transport.Result{ExitCode: 1, Stderr: []byte("sudo: a password is required\n")}),
		"(sudo -n -u root: sudo: a password is required: add the key become-password to the Secret")
}
