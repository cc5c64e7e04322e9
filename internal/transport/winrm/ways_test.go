package winrm_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

func TestWaysIn(t *testing.T) {
	for _, way := range []struct{ scheme, authentication string }{
		{winrm.HTTPS, winrm.NTLM}, {winrm.HTTPS, winrm.Basic}, {winrm.HTTPS, winrm.Certificate}, {winrm.HTTP, winrm.NTLM},
	} {
		t.Run(way.scheme+way.authentication, func(t *testing.T) {
			b := newBed(t, way.scheme, func(o *wsman.Options, a *authority) { o.ClientAuthorities = a.pool() })
			b.config.Authentication = way.authentication
			switch way.authentication {
			case winrm.Basic:
				b.config.Username = "operator"
			case winrm.Certificate:
				b.config.Username, b.config.Password = "", ""
				b.config.ClientCertificate, b.config.ClientKey = inPEM(t, b.authority.issue(nil))
			}
			c := b.dial()
			exercise(t, c)
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if n := b.Counters(); b.FailedLogons() != 0 || n.Connections > 2 || n.OpenShells != 0 {
				t.Errorf("%d failed logons, %+v", b.FailedLogons(), n)
			}
		})
	}
}

// The refusal comes within the handshake (TLS 1.2) or after it (TLS 1.3).
func TestClientCertificateOfAStranger(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"stranger": nil, "expired": func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			b := newBed(t, winrm.HTTPS, func(o *wsman.Options, a *authority) { o.ClientAuthorities, o.NewestTLS = a.pool(), version })
			b.config.Authentication, b.config.Username = winrm.Certificate, ""
			signer := b.authority
			if name == "stranger" {
				signer = newAuthority(t)
			}
			b.config.ClientCertificate, b.config.ClientKey = inPEM(t, signer.issue(change))
			_, err := winrm.Dial(t.Context(), b.config)
			var refused *transport.CredentialsError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), `"CN=orders01" (Certificate)`) {
				t.Errorf("%s, %x: error %v, want a CredentialsError that names the certificate", name, version, err)
			}
		}
	}
}

// A listener that maps no certificate answers 401 to one.
func TestClientCertificateThatIsNotMapped(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	b.config.Authentication, b.config.Username = winrm.Certificate, ""
	b.config.ClientCertificate, b.config.ClientKey = inPEM(t, b.authority.issue(nil))
	_, err := winrm.Dial(t.Context(), b.config)
	var refused *transport.CredentialsError
	if !errors.As(err, &refused) || b.FailedLogons() != 1 {
		t.Errorf("error %v after %d attempts", err, b.FailedLogons())
	}
}

func TestUnusableClientCertificate(t *testing.T) {
	a := newAuthority(t)
	certificate, key := inPEM(t, a.issue(nil))
	_, other := inPEM(t, a.issue(nil))
	for name, config := range map[string]winrm.Config{
		"none":      {},
		"no key":    {ClientCertificate: certificate},
		"other key": {ClientCertificate: certificate, ClientKey: other},
		"swapped":   {ClientCertificate: key, ClientKey: certificate},
		"text":      {ClientCertificate: certificate, ClientKey: []byte("s3cret")},
	} {
		config.Address, config.Authentication = "127.0.0.1:1", winrm.Certificate
		_, err := winrm.Dial(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), "tls.key of the Secret") {
			t.Errorf("%s: error %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), string(key[40:60]))) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func TestHTTPWithoutSealingCannotBeAskedFor(t *testing.T) {
	reached := 0
	b := newBed(t, winrm.HTTP, nil)
	for _, mode := range []string{winrm.Basic, winrm.Certificate, ""} {
		b.config.Authentication = mode
		if _, err := winrm.Dial(t.Context(), b.config); err == nil {
			t.Errorf("%q: no error", mode)
		}
	}
	b.config.Scheme, b.config.Authentication = "http", winrm.NTLM
	if _, err := winrm.Dial(t.Context(), b.config); err == nil {
		t.Error("another spelling of the scheme was taken")
	}
	if reached += b.Counters().Connections; reached != 0 {
		t.Errorf("%d connections were made", reached)
	}
}

// Somebody between, whose certificate the client trusts, relays what it hears to
// the real listener. The proof is bound to the wrong certificate, so it is worth nothing.
func TestRelayedProofIsWorthNothing(t *testing.T) {
	for _, binding := range []wsman.Binding{wsman.RelaxedBinding, wsman.StrictBinding} {
		b := newBed(t, winrm.HTTPS, func(o *wsman.Options, _ *authority) { o.Binding = binding })
		b.config.Address = relay(t, b.config.Address, b.authority.issue(nil))
		_, err := winrm.Dial(t.Context(), b.config)
		var refused *transport.CredentialsError
		if !errors.As(err, &refused) || b.FailedLogons() != 1 || b.Counters().Requests != 0 {
			t.Errorf("error %v after %d attempts", err, b.FailedLogons())
		}
	}
}

// relay decrypts and encrypts again.
func relay(t *testing.T, to string, certificate *tls.Certificate) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is the attacker
			if err != nil {
				near.Close()
				continue
			}
			go func() { io.Copy(far, near); far.Close(); near.Close() }()
			go func() { io.Copy(near, far); far.Close(); near.Close() }()
		}
	}()
	return listener.Addr().String()
}

// A host that strips or forges the sealing is sent nothing more: not even the
// shell is deleted.
func TestStrippedSealingIsFinal(t *testing.T) {
	for name, trouble := range map[string]wsman.Trouble{"clear": wsman.Clear, "forged": wsman.Forge} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, winrm.HTTP, nil)
			c := b.dial()
			if _, err := c.Run(t.Context(), winrm.Request{Command: "true"}); err != nil {
				t.Fatal(err)
			}
			b.Inject(wsman.Injection{Action: "Enumerate", Trouble: trouble})
			_, err := c.Query(t.Context(), "root/cimv2", "SELECT * FROM X")
			var broken *winrm.ProtectionError
			var trust *transport.TrustError
			if !errors.As(err, &broken) || !errors.As(err, &trust) {
				t.Fatalf("error %v, want a ProtectionError that is a TrustError", err)
			}
			before := b.Counters()
			_, err = c.Query(t.Context(), "root/cimv2", "SELECT * FROM X")
			if !errors.As(err, &broken) {
				t.Errorf("error %v afterwards", err)
			}
			if err := c.Close(); !errors.As(err, &broken) {
				t.Errorf("close: %v", err)
			}
			if after := b.Counters(); after.Requests != before.Requests || after.Connections != before.Connections {
				t.Errorf("%d requests, %d connections after it", after.Requests-before.Requests, after.Connections-before.Connections)
			}
			b.Close() // the shell is left by intention: the host removes it when it has rested
			time.Sleep(1100 * time.Millisecond)
		})
	}
}

// What somebody between could make of a challenge: nothing is proved to it.
func TestWeakChallengesOverHTTP(t *testing.T) {
	clearFlag := func(flag uint32) func([]byte) []byte {
		return func(m []byte) []byte {
			binary.LittleEndian.PutUint32(m[20:], binary.LittleEndian.Uint32(m[20:])&^flag)
			return m
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"no sealing": clearFlag(0x20), "no signing": clearFlag(0x10), "no extended session security": clearFlag(0x80000),
		"no 128 bits": clearFlag(0x20000000), "no key exchange": clearFlag(0x40000000), "no target information": clearFlag(0x800000),
		// The keys of an anonymous logon are known to everybody.
		"anonymous": func(m []byte) []byte {
			binary.LittleEndian.PutUint32(m[20:], binary.LittleEndian.Uint32(m[20:])|0x800)
			return m
		},
		"no time stamp": func(m []byte) []byte {
			at := len(m) - 16 // the pair before the end
			m[at] = 9
			return m
		},
		"offset outside": func(m []byte) []byte { binary.LittleEndian.PutUint32(m[44:], 1<<31); return m },
		"short":          func(m []byte) []byte { return m[:30] },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, winrm.HTTP, func(o *wsman.Options, _ *authority) { o.Challenge = change })
			_, err := winrm.Dial(t.Context(), b.config)
			var broken *winrm.ProtectionError
			if !errors.As(err, &broken) {
				t.Errorf("error %v, want a ProtectionError", err)
			}
			if n := b.Counters(); n.Requests != 0 || b.FailedLogons() != 0 {
				t.Errorf("%d requests, %d proofs", n.Requests, b.FailedLogons())
			}
		})
	}
}

// Over HTTPS the proof is bound to the certificate, so a poor challenge harms
// nobody; it is never answered with NTLMv1 (which the service would not take).
func TestPoorChallengeIsNeverAnsweredWithNTLMv1(t *testing.T) {
	b := newBed(t, winrm.HTTPS, func(o *wsman.Options, _ *authority) {
		o.Challenge = func(m []byte) []byte {
			binary.LittleEndian.PutUint32(m[20:], binary.LittleEndian.Uint32(m[20:])&^0x20080020)
			return m
		}
	})
	exercise(t, b.dial())
}

func TestMalformedChallenges(t *testing.T) {
	for _, scheme := range []string{winrm.HTTPS, winrm.HTTP} {
		for name, change := range map[string]func([]byte) []byte{
			"empty": func([]byte) []byte { return nil }, "noise": func([]byte) []byte { return []byte(strings.Repeat("\xff", 80)) },
			"own message": func([]byte) []byte { return []byte("NTLMSSP\x00\x01\x00\x00\x00") }, "cut": func(m []byte) []byte { return m[:len(m)-3] },
			"anonymous": func(m []byte) []byte {
				binary.LittleEndian.PutUint32(m[20:], binary.LittleEndian.Uint32(m[20:])|0x800)
				return m
			},
		} {
			b := newBed(t, scheme, func(o *wsman.Options, _ *authority) { o.Challenge = change })
			if _, err := winrm.Dial(t.Context(), b.config); err == nil || b.FailedLogons() != 0 {
				t.Errorf("%s, %s: error %v, %d proofs", scheme, name, err, b.FailedLogons())
			}
		}
	}
}

func TestWrongCertificates(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"another name":    func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} },
		"expired":         func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"not yet valid":   func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
		"for clients":     func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"another address": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, winrm.HTTPS, func(o *wsman.Options, a *authority) { o.Certificate = a.issue(change) })
			_, err := winrm.Dial(t.Context(), b.config)
			var trust *transport.TrustError
			if !errors.As(err, &trust) || trust.Fingerprint == "" {
				t.Errorf("error %v, want a TrustError with the fingerprint", err)
			}
			if n := b.Counters(); n.Requests != 0 || b.FailedLogons() != 0 {
				t.Errorf("%d requests, %d logons", n.Requests, b.FailedLogons())
			}
		})
	}
}
