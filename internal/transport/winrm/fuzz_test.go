package winrm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/bodgit/ntlmssp"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(identified))
	f.Add([]byte(reply(`<n:EnumerateResponse><n:EnumerationContext>uuid:1</n:EnumerationContext><w:Items><p:X xmlns:p="x"><p:A xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/></p:X></w:Items></n:EnumerateResponse>`)))
	_, text := received("C", "out", "err", 7)
	f.Add([]byte(text))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "&b;&b;">]><a>&b;</a>`))
	f.Add([]byte(strings.Repeat("<a>", 200)))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := parseBody(data)
		if err != nil {
			return
		}
		answer := firstOf(body, "EnumerateResponse", "PullResponse")
		for _, item := range answer.items() {
			_ = instance(item)
		}
		out := newOutput(Request{MaxStdout: 10})
		if _, err := out.take(body.child("ReceiveResponse"), "C"); err == nil && len(out.result().Stdout) > 10 {
			t.Error("more was kept than asked for")
		}
	})
}

func FuzzFault(f *testing.F) {
	for _, code := range []uint32{codeBusy, codeShellNotFound} {
		_, text := fault(code, "w:TimedOut", "Der Vorgang wurde nicht beendet.")
		f.Add(500, []byte(text))
	}
	f.Add(200, []byte(reply("<s:Fault><s:Reason><s:Text>"+strings.Repeat("ü", 2000)+"</s:Text></s:Reason></s:Fault>")))
	f.Add(413, []byte(nil))
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		c := &Client{config: Config{Authentication: NTLM}}
		_, err := c.understand(&httpReply{status: status, header: http.Header{}, body: data}, 1)
		var refused *transport.CredentialsError
		if errors.As(err, &refused) && status != http.StatusUnauthorized {
			t.Errorf("status %d is taken for a refusal", status)
		}
		var fault *Fault
		if errors.As(err, &fault) && len(fault.Text) > maxFaultText {
			t.Errorf("a text of %d bytes", len(fault.Text))
		}
	})
}

func FuzzNTLMChallenge(f *testing.F) {
	f.Add(challengeMessage([]byte("8 random")))
	f.Add([]byte("NTLMSSP\x00\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, challenge []byte) {
		client, err := ntlmssp.NewClient(ntlmssp.SetCompatibilityLevel(3), ntlmssp.SetUserInfo("user", "password"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Authenticate(nil, nil); err != nil {
			t.Fatal(err)
		}
		strong := checkChallenge(bytes.Clone(challenge)) == nil
		third, err := proof(client, challenge, nil)
		if err != nil {
			return
		}
		if size := binary.LittleEndian.Uint16(third[20:]); size <= 24 {
			t.Errorf("an NTLMv1 response of %d bytes", size)
		}
		if !strong {
			return
		}
		signature, sealed, err := (&ntlmSession{client.SecuritySession()}).seal([]byte("a message that is long enough"))
		if err != nil || len(signature) != 16 || bytes.Contains(sealed, []byte("message")) {
			t.Errorf("a challenge that was taken does not seal: %v", err)
		}
	})
}

func FuzzOffer(f *testing.F) {
	f.Add("Negotiate TlRMTVNTUAAC, Basic realm=\"WSMAN\"")
	f.Add("negotiate")
	f.Fuzz(func(t *testing.T, value string) {
		offered, token := offer(http.Header{"Www-Authenticate": {value}}, "Negotiate")
		if !offered && token != "" {
			t.Error("a token of a scheme that is not offered")
		}
	})
}

// testHello is what a listener's proof is checked against.
func testHello() *hello {
	key := types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{7}, 32)}
	return &hello{held: credential{key: key}, authenticator: types.Authenticator{SubKey: key, SeqNumber: 1}}
}

// aReply is what MIT's acceptor answered once, to a key that is forgotten.
const aReply = "oYGqMIGnoAMKAQChCwYJKoZIhvcSAQICooGSBIGPYIGMBgkqhkiG9xIBAgICAG99MHugAwIBBaEDAgEPom8wbaADAgESomYEZGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="

func FuzzSPNEGO(f *testing.F) {
	token, err := base64.StdEncoding.DecodeString(aReply)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add([]byte("\xa1\x07\x30\x05\xa0\x03\x0a\x01\x00"))
	f.Add([]byte("\x60\x28\x06\x06\x2b\x06\x01\x05\x05\x02"))
	f.Fuzz(func(t *testing.T, token []byte) {
		if s, err := testHello().verify(token); err == nil || s != nil {
			t.Error("a proof was taken whose key nobody has")
		}
	})
}

// plainSession seals nothing, so that the framing is what is fuzzed.
type plainSession struct{}

func (plainSession) seal(plain []byte) ([]byte, []byte, error) {
	return []byte("16 bytes of sign"), plain, nil
}
func (plainSession) open(_, sealed []byte) ([]byte, error) { return sealed, nil }

func FuzzSealedFraming(f *testing.F) {
	for _, plain := range []string{"", "<s:Envelope/>", lastBoundary, "\r\n", boundaryLine + "\r\n"} {
		body, err := wrap(plainSession{}, []byte(plain))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	// As Windows writes it, and as some proxies rewrite it.
	f.Add([]byte("--Encrypted Boundary\r\nContent-Type: application/HTTP-SPNEGO-session-encrypted\r\nOriginalContent: type=application/soap+xml;charset=UTF-8;Length=2\r\n" +
		"--Encrypted Boundary\r\nContent-Type: application/octet-stream\r\n\x01\x00\x00\x00sab--Encrypted Boundary--\r\n"))
	f.Add([]byte("--Encrypted Boundary\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n\xff\xff\xff\xff--Encrypted Boundary--"))
	f.Fuzz(func(t *testing.T, body []byte) {
		length, signature, sealed, err := parseSealed(body)
		if err != nil {
			return
		}
		if length < 0 || len(signature) > maxSignature || len(signature)+len(sealed) > len(body) {
			t.Errorf("length %d, %d and %d of %d bytes", length, len(signature), len(sealed), len(body))
		}
		if plain, err := unwrap(plainSession{}, body); err == nil && len(plain) != length {
			t.Errorf("%d bytes instead of %d", len(plain), length)
		}
	})
}

func FuzzWrapToken(f *testing.F) {
	for _, kind := range []int32{17, 18, 19, 20} {
		signature, sealed := sealedByAcceptor(f, kind, "a message")
		f.Add(kind, append(signature, sealed...), len(signature))
	}
	f.Fuzz(func(t *testing.T, kind int32, token []byte, split int) {
		s, err := testSession(kind)
		if err != nil || split < 0 || split > len(token) {
			return
		}
		before := s.awaited
		if _, err := s.open(token[:split], token[split:]); err != nil && s.awaited != before {
			t.Error("a token that was not taken counts")
		}
	})
}

func testSession(kind int32) (*kerberosSession, error) {
	if _, err := strong(kind); err != nil {
		return nil, err
	}
	return newKerberosSession(types.EncryptionKey{KeyType: kind, KeyValue: bytes.Repeat([]byte{5}, keySize(kind))}, flagAcceptorSubkey, 3, 9)
}
