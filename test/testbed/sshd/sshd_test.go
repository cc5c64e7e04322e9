package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/test/testbed/cgroup"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

var errHostKey = errors.New("unexpected host key")

func TestServer(t *testing.T) {
	j := newJanitor(t)
	key, public := newKey(t)
	s, err := Start(t.Context(), Options{Dir: t.TempDir(), Janitor: j, Config: []string{"MaxSessions 2"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s, key, s.HostKeys()[0]); err == nil {
		t.Error("a key was accepted before it was authorized")
	}
	if err := s.Authorize(public); err != nil {
		t.Fatal(err)
	}
	old := s.HostKeys()[0]
	open, err := dial(t, s, key, old)
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, open, "id -u"); out != strconv.Itoa(os.Geteuid()) {
		t.Errorf("sessions run as user %s", out)
	}
	testMaxSessions(t, open)

	pid := s.PID()
	if err := s.SwapHostKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s, key, old); !errors.Is(err, errHostKey) {
		t.Errorf("a client that expects the old host key: %v", err)
	}
	if s.HostKeys()[0] == old || s.PID() != pid {
		t.Errorf("host key %s, was %s; PID %d, was %d", s.HostKeys()[0], old, s.PID(), pid)
	}
	if _, err := dial(t, s, key, s.HostKeys()[0]); err != nil {
		t.Errorf("a client that expects the new host key: %v", err)
	}
	run(t, open, "true") // a connection from before goes on
}

// testMaxSessions shows that a line of Config is obeyed.
func testMaxSessions(t *testing.T, client *ssh.Client) {
	t.Helper()
	var sessions []*ssh.Session
	for range 2 {
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, session)
	}
	if _, err := client.NewSession(); err == nil {
		t.Error("a third session was opened in spite of MaxSessions 2")
	}
	for _, session := range sessions {
		_ = session.Close()
	}
}

func TestForceShell(t *testing.T) {
	if os.Geteuid() != 0 {
		_, err := Start(t.Context(), Options{Dir: t.TempDir(), ForceShell: "/bin/sh"})
		if err == nil || !strings.Contains(err.Error(), "needs root") {
			t.Errorf("without root: %v", err)
		}
		return
	}
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	key, public := newKey(t)
	s, err := Start(t.Context(), Options{Dir: t.TempDir(), Janitor: newJanitor(t), ForceShell: "/bin/sh", AuthorizedKeys: [][]byte{public}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := dial(t, s, key, s.HostKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, client, `echo "$SHELL $0"; getent passwd "$(id -un)" | cut -d: -f7`); out != "/bin/sh /bin/sh\n/bin/sh" && out != "/bin/sh sh\n/bin/sh" {
		t.Errorf("the shell is %q", out)
	}
	start := time.Now()
	for range 20 {
		run(t, client, "true")
	}
	t.Logf("one command in %v", time.Since(start)/20)
	after, err := os.ReadFile("/etc/passwd")
	if err != nil || string(after) != string(before) {
		t.Errorf("the machine's /etc/passwd has changed (%v)", err)
	}
}

// TestStopEndsWhatSessionsLeft needs the control group, and so root.
func TestStopEndsWhatSessionsLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("control groups need root")
		}
		t.Skip("control groups need root")
	}
	key, public := newKey(t)
	s, err := Start(t.Context(), Options{Dir: t.TempDir(), Janitor: newJanitor(t), ForceShell: "/bin/sh", AuthorizedKeys: [][]byte{public}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := dial(t, s, key, s.HostKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(run(t, client, "setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("a frozen server stopped in %v", time.Since(start))
	for wait := time.Now().Add(5 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(wait) {
			t.Fatal("a detached process has outlived the server")
		}
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("somebody still listens")
	}
}

func TestStartMany(t *testing.T) {
	const count = 100
	key, public := newKey(t)
	o := Options{Dir: t.TempDir(), Janitor: newJanitor(t), AuthorizedKeys: [][]byte{public}}
	if os.Geteuid() == 0 {
		o.ForceShell = "/bin/sh"
	}
	start := time.Now()
	servers, err := StartMany(t.Context(), count, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d servers in %v", count, time.Since(start))
	seen := map[string]bool{}
	for _, s := range servers {
		seen[s.Addr()] = true
		seen[s.HostKeys()[0]] = true
	}
	if len(seen) != 2*count {
		t.Errorf("%d distinct addresses and host keys, want %d", len(seen), 2*count)
	}
	for _, s := range []*Server{servers[0], servers[count-1]} {
		client, err := dial(t, s, key, s.HostKeys()[0])
		if err != nil {
			t.Fatal(err)
		}
		run(t, client, "true")
	}
	start = time.Now()
	if err := StopAll(t.Context(), servers); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %v", time.Since(start))
}

func TestPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing was written
	s, err := Start(t.Context(), Options{Dir: t.TempDir(), Janitor: newJanitor(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.addr = listener.Addr().(*net.TCPAddr).AddrPort()
	if err := s.relaunchForTest(t.Context()); !errors.Is(err, errPortTaken) {
		t.Errorf("a taken port gives %v", err)
	}
}

func TestBadConfigIsReportedWithTheLog(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Janitor: newJanitor(t), Config: []string{"NoSuchKeyword yes"}})
	if err == nil || !strings.Contains(err.Error(), "NoSuchKeyword") {
		t.Errorf("a bad configuration gives %v", err)
	}
}

func TestWithShell(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\nops:x:1000:1000::/home/ops:/bin/zsh\n"
	for _, c := range []struct{ user, want string }{
		{"root", "root:x:0:0:root:/root:/bin/sh\nops:x:1000:1000::/home/ops:/bin/zsh\n"},
		{"ops", "root:x:0:0:root:/root:/bin/bash\nops:x:1000:1000::/home/ops:/bin/sh\n"},
	} {
		if got, err := withShell(passwd, c.user, "/bin/sh"); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", c.user, got, err)
		}
	}
	if _, err := withShell(passwd, "nobody", "/bin/sh"); err == nil {
		t.Error("a user who is not there was found")
	}
}

// relaunchForTest runs the server again on the port that it has.
func (s *Server) relaunchForTest(ctx context.Context) error {
	if s.group != nil {
		var err error
		if s.group, err = cgroup.NewTracker(s.options.Janitor, "isthmus-sshd-"+groupName()); err != nil {
			return err
		}
	}
	return s.launch(ctx)
}

func newJanitor(t *testing.T) *janitor.Janitor {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func dial(t *testing.T, s *Server, key ssh.Signer, hostKey string) (*ssh.Client, error) {
	t.Helper()
	client, err := ssh.Dial("tcp", s.Addr(), &ssh.ClientConfig{
		User: s.User(), Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: 10 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))); got != hostKey {
				return fmt.Errorf("%w: %s", errHostKey, got)
			}
			return nil
		},
	})
	if err == nil {
		t.Cleanup(func() { _ = client.Close() })
	}
	return client, err
}

func run(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close() //nolint:errcheck // it has ended
	out, err := session.Output(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(string(out))
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, ssh.MarshalAuthorizedKey(signer.PublicKey())
}
