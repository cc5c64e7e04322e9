package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/redaction"
)

const privateKey = `-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACDhQ2FuYXJ5S2V5TGluZVR3b0NhbmFyeUtleUxpbmVUd29DYW5hcnlLZXlMa
-----END OPENSSH PRIVATE KEY-----
`

// planted are secrets of each kind that a link knows of.
var planted = []string{
	"pass <word> & 4711", "pass-phrase-4711", "become/4711", strings.Split(privateKey, "\n")[1], strings.Split(privateKey, "\n")[2],
	"jump+password=4711", "arrow->4711", "outer jump 4711", "job \"secret\" 4711",
}

func linkWithSecrets() *link {
	f := New(Options{})
	l := f.link(HostKey{Namespace: "shop", Name: "web"})
	outer := &Endpoint{Credentials: credential.Credentials{Password: "outer jump 4711"}}
	jump := &Endpoint{Credentials: credential.Credentials{Password: "jump+password=4711"}, Jump: outer}
	l.endpoint = Endpoint{Jump: jump, Credentials: credential.Credentials{
		Username: "deploy", Password: "pass <word> & 4711", ClientKey: []byte("arrow->4711"), Passphrase: "pass-phrase-4711", BecomePassword: "become/4711", PrivateKey: []byte(privateKey),
	}}
	u := l.ensure(Object{Kind: "ExternalService"})
	u.remember(machine.Job{ID: "a-1", Secrets: []machine.Secret{machine.Secret(`job "secret" 4711`)}})
	return l
}

// shows tells whether a text has a secret in one of its forms.
func shows(text string) string {
	for _, secret := range planted {
		for _, form := range redaction.Forms([]byte(secret)) {
			if bytes.Contains([]byte(text), form) {
				return secret
			}
		}
	}
	return ""
}

// TestNoTextShowsASecret: each secret in each of its forms, in each text of a host and of a transport.
func TestNoTextShowsASecret(t *testing.T) {
	l := linkWithSecrets()
	for _, secret := range planted {
		for _, form := range redaction.Forms([]byte(secret)) {
			text := "before " + string(form) + " after"
			clean := l.cleaner()
			shown := []any{
				clean.facts(machine.Facts{Hostname: text, OSName: text, OSVersion: text, Kernel: text, Architecture: text, InitSystem: text}),
				clean.answer(machine.Problem{Reason: "Failed", Message: text}),
				clean.answer(machine.JobState{Phase: machine.JobFailed, Message: text}),
				clean.answer(machine.ScriptState{Output: text}),
				l.describe(errors.New(text)),
				l.describe(fmt.Errorf("observe: %w", &SourceError{SHA256: "ab", Err: errors.New(text)})),
				l.handOverMessage(&machine.RefusedError{JobID: "a-1", Reason: text}),
			}
			for _, s := range shown {
				assert.Empty(t, shows(fmt.Sprintf("%+v", s)), "%T shows %q", s, form)
				assert.Contains(t, fmt.Sprintf("%+v", s), redaction.Replacement, "%T", s)
			}
		}
	}
	assert.NotContains(t, fmt.Sprintf("%+v %#v", *l.ensure(Object{Kind: "ExternalService"}), l.ensure(Object{Kind: "ExternalService"}).secrets), "4711")
}

// TestATextIsCutAfterItIsRedacted: wherever the cut falls, no part of a secret is left over at it.
func TestATextIsCutAfterItIsRedacted(t *testing.T) {
	l := linkWithSecrets()
	const secret = "jump+password=4711"
	for _, at := range []int{longestMessage, longestProblem, longestOutput, window} {
		for shift := -2 * len(secret); shift <= len(secret); shift++ {
			head := strings.Repeat("x", max(0, at+shift)) + secret + strings.Repeat("y", 2*window)
			tail := strings.Repeat("x", 2*window) + secret + strings.Repeat("y", max(0, at+shift))
			clean := l.cleaner()
			for _, text := range []string{
				clean.head(head, longestProblem), clean.head(head, 2*window), clean.tail(tail, longestOutput), clean.tail(tail, 2*window), l.describe(errors.New(head)),
			} {
				for cut := 4; cut <= len(secret); cut++ {
					assert.NotContains(t, text, secret[:cut], "%d%+d", at, shift)
					assert.NotContains(t, text, secret[len(secret)-cut:], "%d%+d", at, shift)
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

func FuzzTexts(f *testing.F) {
	f.Add("before", "after", uint8(0), uint8(0), uint32(10))
	f.Add("\x00\xff", "jump+", uint8(3), uint8(2), uint32(70000))
	l := linkWithSecrets()
	f.Fuzz(func(t *testing.T, before, after string, which, form uint8, filler uint32) {
		forms := redaction.Forms([]byte(planted[int(which)%len(planted)]))
		secret := string(forms[int(form)%len(forms)])
		fill := strings.Repeat(".", int(filler%200000))
		clean := l.cleaner()
		for _, text := range []string{before + fill + secret + after, before + secret + fill + after, secret + before + fill + secret} {
			for _, got := range []string{clean.head(text, longestProblem), clean.tail(text, longestOutput), l.describe(errors.New(text))} {
				if found := shows(got); found != "" {
					t.Errorf("%q shows %q", got, found)
				}
				if len(got) > longestOutput {
					t.Errorf("%d bytes", len(got))
				}
			}
		}
	})
}

// BenchmarkRedactor is what a first text of a host with a private key costs.
func BenchmarkRedactor(b *testing.B) {
	key := strings.Repeat("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n", 37)
	for b.Loop() {
		redaction.New([]byte(key))
	}
	b.ReportAllocs()
}
