package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// seeded is the same key in each process, as a corpus needs it.
func seeded(t testing.TB, seed byte) ssh.Signer {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// FuzzHostKey: whatever a host shows, only a pinned key or what the authority has
// signed is accepted, and what is refused can be told.
func FuzzHostKey(f *testing.F) {
	pinned, authority, stranger := seeded(f, 1), seeded(f, 2), seeded(f, 3)
	certificate := &ssh.Certificate{
		Key: stranger.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"host"}, ValidBefore: ssh.CertTimeInfinity,
		Nonce: make([]byte, 32),
	}
	if err := certificate.SignCert(bytes.NewReader(make([]byte, 64)), authority); err != nil {
		f.Fatal(err)
	}
	for _, key := range []ssh.PublicKey{pinned.PublicKey(), stranger.PublicKey(), certificate} {
		f.Add(key.Marshal())
	}
	f.Fuzz(func(t *testing.T, shown []byte) {
		key, err := ssh.ParsePublicKey(shown)
		if err != nil {
			return
		}
		v := &verifier{now: time.Unix(1e9, 0), pins: pins{
			keys: []ssh.PublicKey{pinned.PublicKey()}, authorities: []ssh.PublicKey{authority.PublicKey()}, names: []string{"host"},
		}}
		err = v.check("host:22", nil, key)
		trust, notYet := &transport.TrustError{}, &notYetError{}
		switch {
		case errors.As(err, &trust):
			if trust.Reason != transport.TrustMismatch || trust.Error() == "" {
				t.Fatal(trust)
			}
		case errors.As(err, &notYet):
		case err != nil:
			t.Fatal(err)
		case bytes.Equal(key.Marshal(), pinned.PublicKey().Marshal()):
		default:
			shown, ok := key.(*ssh.Certificate)
			if !ok || !bytes.Equal(shown.SignatureKey.Marshal(), authority.PublicKey().Marshal()) || !slices.Contains(shown.ValidPrincipals, "host") {
				t.Fatalf("accepted %s", keyLine(key))
			}
		}
	})
}

// FuzzExit: the payloads in which a host says how a command ended.
func FuzzExit(f *testing.F) {
	f.Add("exit-status", ssh.Marshal(struct{ Code uint32 }{1060}))
	f.Add("exit-signal", ssh.Marshal(struct {
		Signal     string
		Core       bool
		Error, Tag string
	}{"KILL", false, "", ""}))
	f.Add("exit-status", []byte{0, 0})
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		s := &session{}
		known := s.readExit(&ssh.Request{Type: kind, Payload: payload})
		if known && kind != "exit-status" && kind != "exit-signal" {
			t.Fatal(kind)
		}
		if !known && (s.code != 0 || s.signal != "") {
			t.Fatal("half of an answer was kept")
		}
		if s.code < 0 {
			t.Fatal(s.code)
		}
	})
}

// FuzzQuestions: whatever is asked, the password is told once at most, to one hidden question.
func FuzzQuestions(f *testing.F) {
	f.Add("", "", "Password: ", false, "Password: ", false)
	f.Add("Expired", "change it", "New password: ", false, "", true)
	f.Fuzz(func(t *testing.T, name, instruction, first string, firstEcho bool, second string, secondEcho bool) {
		a := &authenticator{password: "secret-word"}
		answer := a.answer()
		told := 0
		count := func(questions []string, echos []bool) {
			answers, err := answer(name, instruction, questions, echos)
			if err == nil && len(answers) != len(questions) {
				t.Fatal("an answer is missing")
			}
			for i, text := range answers {
				if text != "secret-word" || echos[i] {
					t.Fatalf("%q was answered with %q", questions[i], text)
				}
				told++
			}
		}
		count([]string{first}, []bool{firstEcho})
		count(nil, nil)
		count([]string{second}, []bool{secondEcho})
		count([]string{first, second}, []bool{false, false})
		if told > 1 {
			t.Fatalf("told %d times", told)
		}
	})
}

// FuzzMatches against a plain definition of the same pattern language.
func FuzzMatches(f *testing.F) {
	f.Add("*.example", "db.example")
	f.Add("a*b?c**", "aXbYc")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern)+len(name) > 40 || strings.Count(pattern, "*") > 6 {
			return
		}
		if got, want := matches(pattern, name), plainly(strings.ToLower(pattern), strings.ToLower(name)); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
	})
}

func plainly(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return plainly(pattern[1:], name) || name != "" && plainly(pattern, name[1:])
	default:
		return name != "" && (pattern[0] == '?' || pattern[0] == name[0]) && plainly(pattern[1:], name[1:])
	}
}

// FuzzHost: bytes in the place of a server. Dial ends with a class of error, in
// time, and tells nobody anything.
func FuzzHost(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Add([]byte("hello\nSSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14\x00\x00"))
	f.Add([]byte("SSH-1.99-old\n\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, said []byte) {
		near, far := net.Pipe()
		var heard bytes.Buffer
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = heard.ReadFrom(far)
		}()
		go func() {
			_, _ = far.Write(said)
			_ = far.Close()
		}()
		config := Config{Address: "host:22", User: "user", Password: "secret-word", HostKeys: []string{keyLine(seeded(t, 1).PublicKey())}}
		attempt, err := prepare(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err = attempt.dial(ctx, func(context.Context, Config) (net.Conn, error) { return near, nil }); err == nil {
			t.Fatal("connected")
		}
		if got := outcome(err); got != "unreachable" && got != "trust" {
			t.Fatalf("%s: %v", got, err)
		}
		<-done
		if bytes.Contains(heard.Bytes(), []byte("secret-word")) || strings.Contains(err.Error(), "secret-word") {
			t.Fatal("the password was told")
		}
	})
}
