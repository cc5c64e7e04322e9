package winrm

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// sealedByAcceptor is what the other side of a test session would send first.
func sealedByAcceptor(tb testing.TB, kind int32, text string) (signature, sealed []byte) {
	tb.Helper()
	s, err := testSession(kind)
	if err != nil {
		tb.Fatal(err)
	}
	flags := byte(flagAcceptor | flagSealed | flagAcceptorSubkey)
	_, encrypted, err := s.kind.EncryptMessage(s.key.KeyValue, append([]byte(text), s.header(flags, 0, 0, 9)...), usageAcceptorSeal)
	if err != nil {
		tb.Fatal(err)
	}
	rotation := wrapHeader + s.kind.GetHMACBitLength()/8
	token := slices.Concat(s.header(flags, 0, uint16(rotation), 9), rotateRight(encrypted, rotation))
	return token[:len(token)-len(text)], token[len(token)-len(text):]
}

func TestWrapTokens(t *testing.T) {
	for _, kind := range strongTypes {
		s, err := testSession(kind)
		if err != nil {
			t.Fatal(err)
		}
		signature, sealed := sealedByAcceptor(t, kind, "a message")
		token := append(bytes.Clone(signature), sealed...)
		for i := range token {
			for _, bit := range []byte{1, 0x80} {
				forged := bytes.Clone(token)
				forged[i] ^= bit
				if _, err := s.open(forged[:len(signature)], forged[len(signature):]); err == nil {
					t.Errorf("type %d: a token with byte %d changed was taken", kind, i)
				}
			}
		}
		if plain, err := s.open(signature, sealed); err != nil || string(plain) != "a message" {
			t.Errorf("type %d: %q, %v", kind, plain, err)
		}
		if _, err := s.open(signature, sealed); err == nil {
			t.Errorf("type %d: a token was taken twice", kind)
		}
		mine, own, err := s.seal([]byte("a message"))
		if err != nil || len(own) != len("a message") || bytes.Contains(append(mine, own...), []byte("message")) {
			t.Errorf("type %d: sealed as %x %x, %v", kind, mine, own, err)
		}
	}
	for _, kind := range []int32{0, 1, 3, 16, 23, 24, -133} {
		if _, err := strong(kind); err == nil {
			t.Errorf("encryption type %d was taken", kind)
		}
	}
}

// What an HTTP answer to a sealed message means before it is opened.
func TestUnsealedAnswers(t *testing.T) {
	var (
		broken *ProtectionError
		large  *EnvelopeTooLargeError
		status *HTTPError
	)
	for _, test := range []struct {
		status int
		kind   string
		as     any
	}{
		{200, "application/soap+xml;charset=UTF-8", &broken}, {200, "", &broken}, {500, "application/soap+xml", &broken}, {500, "text/xml", &broken},
		{200, `multipart/encrypted;protocol="application/HTTP-CredSSP-session-encrypted";boundary="Encrypted Boundary"`, &broken},
		{200, `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="x"`, &broken},
		{200, sealedType, &broken}, {500, sealedType, &broken},
		{413, "", &large}, {401, "text/html", &status}, {500, "", &status}, {503, "text/html", &status}, {302, "", &status},
	} {
		reply := &httpReply{status: test.status, header: http.Header{"Content-Type": {test.kind}}, body: []byte("<s:Envelope/>")}
		if _, err := unseal(plainSession{}, reply, 1); !errors.As(err, test.as) {
			t.Errorf("%d %q: error %v", test.status, test.kind, err)
		}
	}
	var trust *transport.TrustError
	if err := unprotected("x"); !errors.As(err, &trust) || trust.Reason != transport.TrustMismatch {
		t.Errorf("error %v is no TrustError", err)
	}
}

// Without TLS and without keys nothing is written, whatever the caller says.
func TestLaneWithoutProtectionCarriesNothing(t *testing.T) {
	l := &lane{authorization: "Basic dXNlcjpwYXNz"}
	_, err := l.ask(t.Context(), "http://127.0.0.1:1/wsman", []byte("secret"), 1)
	var broken *ProtectionError
	if !errors.As(err, &broken) {
		t.Errorf("error %v, want a ProtectionError", err)
	}
	c := &Client{config: Config{Authentication: Basic, Username: "u", Password: "p"}}
	if err := c.authenticate(t.Context(), l); !errors.As(err, &broken) || l.session != nil {
		t.Errorf("error %v, want a ProtectionError", err)
	}
}

func TestCaptureKeepsBothEnds(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 7, 10} {
		for _, step := range []int{1, 3, 50} {
			all := bytes.Repeat([]byte("0123456789"), 5)
			c := newCapture(limit)
			for part := range slices.Chunk(all, step) {
				c.write(part)
			}
			want := append(bytes.Clone(all[:(limit+1)/2]), all[len(all)-limit/2:]...)
			if !bytes.Equal(c.bytes(), want) || !c.cut {
				t.Errorf("limit %d, step %d: %q, want %q", limit, step, c.bytes(), want)
			}
		}
	}
	c := newCapture(50)
	c.write(bytes.Repeat([]byte("x"), 50))
	if len(c.bytes()) != 50 || c.cut {
		t.Error("what fits was cut")
	}
}
