package wsman

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/bodgit/ntlmssp"
)

// logon performs an NTLM logon with a client that nobody here wrote.
func logon(t *testing.T, user, password string, binding []byte, level Binding) (*ntlmContext, *ntlmssp.Client, error) {
	t.Helper()
	client, err := ntlmssp.NewClient(ntlmssp.SetUserInfo(user, password), ntlmssp.SetDomain("DOMAIN"), ntlmssp.SetWorkstation("CLIENT"),
		ntlmssp.SetVersion(ntlmssp.DefaultVersion()))
	if err != nil {
		t.Fatal(err)
	}
	negotiate, err := client.Authenticate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := &ntlmContext{machine: "WINHOST"}
	challenge, err := server.begin(negotiate, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var bindings *ntlmssp.ChannelBindings
	if binding != nil {
		bindings = &ntlmssp.ChannelBindings{ApplicationData: append([]byte("tls-server-end-point:"), binding...)}
	}
	message, err := client.Authenticate(challenge, bindings)
	if err != nil {
		t.Fatal(err)
	}
	accounts := &accounts{user: "Administrator", password: "Grüße 1"}
	return server, client, server.finish(message, []byte("certificate"), level, accounts.lookup)
}

func TestLogon(t *testing.T) {
	for _, test := range []struct {
		name, user, password string
		binding              []byte
		level                Binding
		want                 error
	}{
		{"Right", "administrator", "Grüße 1", nil, RelaxedBinding, nil},
		{"RightChannel", "Administrator", "Grüße 1", []byte("certificate"), StrictBinding, nil},
		{"WrongPassword", "Administrator", "grüße 1", nil, RelaxedBinding, errLogon},
		{"WrongUser", "Guest", "Grüße 1", nil, RelaxedBinding, errLogon},
		{"AnotherChannel", "Administrator", "Grüße 1", []byte("somebody in the middle"), RelaxedBinding, errBinding},
		{"NoChannel", "Administrator", "Grüße 1", nil, StrictBinding, errNoBinding},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, _, err := logon(t, test.user, test.password, test.binding, test.level); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	server := &ntlmContext{machine: "WINHOST"}
	for _, message := range [][]byte{nil, []byte("NTLMSSP\x00"), bytes.Repeat([]byte{3}, 100), append(bytes.Clone(ntlmSignature), bytes.Repeat([]byte{1}, 8)...)} {
		if _, err := server.begin(message[:min(len(message), 15)], time.Now()); err == nil {
			t.Errorf("begin took %q", message)
		}
		if err := server.finish(message, nil, RelaxedBinding, nil); err == nil {
			t.Errorf("finish took %q", message)
		}
	}
}

func TestSealing(t *testing.T) {
	server, client, err := logon(t, "Administrator", "Grüße 1", nil, RelaxedBinding)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := newNTLMKeys(server.key)
	if err != nil {
		t.Fatal(err)
	}
	opener, closer := keys.requests, keys.answers
	for _, text := range []string{"first", "second, with a sequence number of its own"} {
		sealed, signature, err := client.SecuritySession().Wrap([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := opener.open(signature, sealed); err != nil || string(plain) != text {
			t.Errorf("opened %q, %v", plain, err)
		}
		signature, sealed = closer.seal([]byte(text))
		if plain, err := client.SecuritySession().Unwrap(sealed, signature); err != nil || string(plain) != text {
			t.Errorf("the client opened %q, %v", plain, err)
		}
	}
	if _, err := opener.open(make([]byte, 16), []byte("forged")); err == nil {
		t.Error("a forged message was taken")
	}
}
