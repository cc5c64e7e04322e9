package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// issue signs a certificate that is valid for an hour to either side of now.
func issue(t *testing.T, authority ssh.Signer, key ssh.PublicKey, kind uint32, change func(*ssh.Certificate), principals ...string) *ssh.Certificate {
	t.Helper()
	certificate := &ssh.Certificate{
		Key: key, CertType: kind, KeyId: "test", ValidPrincipals: principals,
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if change != nil {
		change(certificate)
	}
	require.NoError(t, certificate.SignCert(rand.Reader, authority))
	return certificate
}

func expired(c *ssh.Certificate)  { c.ValidBefore = uint64(time.Now().Add(-time.Minute).Unix()) }
func notYet(c *ssh.Certificate)   { c.ValidAfter = uint64(time.Now().Add(time.Minute).Unix()) }
func critical(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"unheard-of": ""} }

func shortRSA(t *testing.T) ssh.Signer {
	t.Helper()
	return signerOf(t, rsaKey(t, 2048))
}

func signerOf(t *testing.T, key any) ssh.Signer {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	return signer
}

// sha1Authority signs as authorities did before OpenSSH 8.2.
type sha1Authority struct{ ssh.AlgorithmSigner }

func (a sha1Authority) Algorithms() []string { return []string{ssh.KeyAlgoRSA} }

// certifiedHost shows a host certificate, and its bare key too.
func certifiedHost(t *testing.T, authority ssh.Signer, kind uint32, change func(*ssh.Certificate), principals ...string) *fakeHost {
	t.Helper()
	return newFakeHost(t, func(h *fakeHost) {
		signer, err := ssh.NewCertSigner(issue(t, authority, h.key.PublicKey(), kind, change, principals...), h.key)
		require.NoError(t, err)
		h.config.AddHostKey(signer)
	})
}

func certifiedConfig(h *fakeHost, authority ssh.Signer) Config {
	config := h.dialConfig()
	config.HostKeys = nil
	config.HostKeyAuthorities = []string{keyLine(authority.PublicKey()) + " ca@example"}
	return config
}

func TestHostCertificate(t *testing.T) {
	authority := newSigner(t)
	for name, principals := range map[string][]string{
		"address":             {"127.0.0.1"},
		"one of several":      {"db.example", "127.0.0.1"},
		"pattern, any number": {"127.0.*"},
	} {
		t.Run(name, func(t *testing.T) {
			host := certifiedHost(t, authority, ssh.HostCert, nil, principals...)
			client, err := Dial(context.Background(), certifiedConfig(host, authority))
			require.NoError(t, err)
			require.Equal(t, host.hostKey(), client.HostKey(), "the certified key, never the certificate")
			require.Equal(t, ssh.FingerprintSHA256(host.key.PublicKey()), client.Fingerprint())
			require.NoError(t, client.Close())
			requireJoined(t)
		})
	}
}

// TestHostCertificateForAPort: [host]:port is a name too, and only of that port.
func TestHostCertificateForAPort(t *testing.T) {
	authority := newSigner(t)
	var signed *ssh.Certificate
	host := newFakeHost(t, func(h *fakeHost) {
		certificate := issue(t, authority, h.key.PublicKey(), ssh.HostCert, nil, "placeholder")
		signer, err := ssh.NewCertSigner(certificate, h.key)
		require.NoError(t, err)
		h.config.AddHostKey(signer)
		signed = certificate
	})
	_, port, err := net.SplitHostPort(host.listener.Addr().String())
	require.NoError(t, err)
	for principal, accepted := range map[string]bool{"[127.0.0.1]:" + port: true, "[127.0.0.1]:1": false} {
		signed.ValidPrincipals = []string{principal}
		require.NoError(t, signed.SignCert(rand.Reader, authority))
		client, err := Dial(context.Background(), certifiedConfig(host, authority))
		if accepted {
			require.NoError(t, err)
			require.NoError(t, client.Close())
			continue
		}
		trust := &transport.TrustError{}
		require.ErrorAs(t, err, &trust)
	}
}

// TestRefusedHostCertificates: terminal, and no authentication is begun.
func TestRefusedHostCertificates(t *testing.T) {
	authority, stranger := newSigner(t), newSigner(t)
	for name, c := range map[string]struct {
		authority  ssh.Signer
		kind       uint32
		change     func(*ssh.Certificate)
		principals []string
		message    string
	}{
		"another authority": {stranger, ssh.HostCert, nil, []string{"127.0.0.1"}, "that authority is not trusted"},
		"another host":      {authority, ssh.HostCert, nil, []string{"127.0.0.2", "*.example"}, "for 127.0.0.2,*.example: it does not name this host"},
		"no host":           {authority, ssh.HostCert, nil, nil, "for no host: it does not name this host"},
		"for users":         {authority, ssh.UserCert, nil, []string{"127.0.0.1"}, "it is a certificate for users"},
		"expired":           {authority, ssh.HostCert, expired, []string{"127.0.0.1"}, "the certificate expired at"},
		"critical option":   {authority, ssh.HostCert, critical, []string{"127.0.0.1"}, "unsupported critical option"},
	} {
		t.Run(name, func(t *testing.T) {
			host := certifiedHost(t, c.authority, c.kind, c.change, c.principals...)
			trust := &transport.TrustError{}
			err := dialError(t, certifiedConfig(host, authority))
			require.ErrorAs(t, err, &trust)
			require.Equal(t, transport.TrustMismatch, trust.Reason)
			require.Equal(t, host.hostKey(), trust.Seen)
			require.ErrorContains(t, err, c.message)
			require.ErrorContains(t, err, ssh.FingerprintSHA256(host.key.PublicKey()), "what was shown")
			require.ErrorContains(t, err, "accepted is a certificate for 127.0.0.1 or [127.0.0.1]:")
			require.ErrorContains(t, err, "by authority "+ssh.FingerprintSHA256(authority.PublicKey()))
			require.Zero(t, host.authBytes.Load())
			require.Equal(t, int32(1), host.accepted.Load(), "it is not tried again")
		})
	}
}

// TestHostCertificateOfTheFuture: a clock that is behind is cured by time, so it is no final error.
func TestHostCertificateOfTheFuture(t *testing.T) {
	authority := newSigner(t)
	host := certifiedHost(t, authority, ssh.HostCert, notYet, "127.0.0.1")
	unreachable := &transport.UnreachableError{}
	err := dialError(t, certifiedConfig(host, authority))
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "and the operator's clock says")
	require.Zero(t, host.authBytes.Load())
}

// TestWeakHostCertificates: what is weak in a certificate is weak in all it certifies.
func TestWeakHostCertificates(t *testing.T) {
	strong := signerOf(t, rsaKey(t, 3072))
	v := func(authorities ...ssh.PublicKey) *verifier {
		return &verifier{pins: pins{authorities: authorities, names: []string{"h"}}, now: time.Now()}
	}
	sha1 := sha1Authority{strong.(ssh.AlgorithmSigner)}
	key := newSigner(t).PublicKey()
	require.NoError(t, v(strong.PublicKey()).check("", nil, issue(t, strong, key, ssh.HostCert, nil, "h")))
	require.ErrorContains(t, v(strong.PublicKey()).check("", nil, issue(t, sha1, key, ssh.HostCert, nil, "h")), "SHA-1")
	require.ErrorContains(t, v(strong.PublicKey()).check("", nil, issue(t, strong, shortRSA(t).PublicKey(), ssh.HostCert, nil, "h")), "2048 bits")
	forged := issue(t, strong, key, ssh.HostCert, nil, "h")
	forged.ValidPrincipals = []string{"h", "other"}
	require.ErrorContains(t, v(strong.PublicKey()).check("", nil, forged), "does not verify")
	_, err := parsePins(Config{Address: "h:22", HostKeyAuthorities: []string{keyLine(shortRSA(t).PublicKey())}})
	require.ErrorContains(t, err, "host key authority 1: the RSA key has 2048 bits")
}

// TestNoCertificateWhereOneIsAskedFor: a host with a bare key is told of as it is.
func TestNoCertificateWhereOneIsAskedFor(t *testing.T) {
	authority := newSigner(t)
	host := newFakeHost(t, nil)
	trust := &transport.TrustError{}
	err := dialError(t, certifiedConfig(host, authority))
	require.ErrorAs(t, err, &trust)
	require.Equal(t, transport.TrustMismatch, trust.Reason, "nothing that may be pinned")
	require.Equal(t, host.hostKey(), trust.Seen)
	require.ErrorContains(t, err, "accepted is a certificate for")
	require.Zero(t, host.authBytes.Load())
}

// TestKeysAndAuthorities: either is enough.
func TestKeysAndAuthorities(t *testing.T) {
	authority := newSigner(t)
	for name, host := range map[string]*fakeHost{
		"pinned key":  newFakeHost(t, nil),
		"certificate": certifiedHost(t, authority, ssh.HostCert, nil, "127.0.0.1"),
	} {
		config := certifiedConfig(host, authority)
		config.HostKeys = []string{keyLine(newSigner(t).PublicKey())}
		if name == "pinned key" {
			config.HostKeys = append(config.HostKeys, host.hostKey())
		}
		client, err := Dial(context.Background(), config)
		require.NoError(t, err, name)
		require.NoError(t, client.Close())
	}
}

// TestPinsIgnoreCertificates: who pins keys is shown keys, also by a host that has a certificate.
func TestPinsIgnoreCertificates(t *testing.T) {
	host := certifiedHost(t, newSigner(t), ssh.HostCert, nil, "127.0.0.1")
	config := host.dialConfig()
	config.HostKeys = nil
	trust := &transport.TrustError{}
	require.ErrorAs(t, dialError(t, config), &trust)
	require.Equal(t, transport.TrustUnpinned, trust.Reason)
	require.Equal(t, host.hostKey(), trust.Seen)
	host.dial(t)
}

// keyHost lets in whom accept does, and tells what it was offered.
func keyHost(t *testing.T, accept func(ssh.PublicKey) bool) (*fakeHost, *[]string) {
	t.Helper()
	var offered []string
	return newFakeHost(t, func(h *fakeHost) {
		h.config.PasswordCallback = nil
		h.config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			offered = append(offered, key.Type())
			if accept(key) {
				return nil, nil
			}
			return nil, errors.New("refused")
		}
	}), &offered
}

func isCertificate(key ssh.PublicKey) bool {
	_, ok := key.(*ssh.Certificate)
	return ok
}

func TestUserCertificate(t *testing.T) {
	authority := newSigner(t)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]any{"ed25519": edKey, "RSA": rsaKey(t, 3072)} {
		t.Run(name, func(t *testing.T) {
			signer := signerOf(t, key)
			certificate := issue(t, authority, signer.PublicKey(), ssh.UserCert, func(c *ssh.Certificate) {
				c.CriticalOptions = map[string]string{"source-address": "127.0.0.0/8"} // The host reads it.
			}, "operator")
			config := func(h *fakeHost) Config {
				config := h.dialConfig()
				config.Password, config.PrivateKey = "", privateKey(t, key, "")
				config.Certificate = append(ssh.MarshalAuthorizedKey(certificate), "\n"...)
				return config
			}
			host, offered := keyHost(t, isCertificate)
			client, err := Dial(context.Background(), config(host))
			require.NoError(t, err)
			require.NoError(t, client.Close())
			require.Len(t, *offered, 1)

			host, offered = keyHost(t, func(key ssh.PublicKey) bool { return !isCertificate(key) })
			client, err = Dial(context.Background(), config(host))
			require.NoError(t, err)
			require.NoError(t, client.Close())
			require.Equal(t, []string{certificate.Type(), signer.PublicKey().Type()}, *offered, "the certificate first")

			host, offered = keyHost(t, func(ssh.PublicKey) bool { return false })
			refused := &transport.CredentialsError{}
			require.ErrorAs(t, dialError(t, config(host)), &refused)
			require.Equal(t, "publickey with the certificate and without", refused.Method)
			require.Equal(t, []string{certificate.Type(), signer.PublicKey().Type()}, *offered, "each once")
		})
	}
}

// TestUnusableUserCertificates are found before anything is sent.
func TestUnusableUserCertificates(t *testing.T) {
	authority, other := newSigner(t), newSigner(t)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key := signerOf(t, private).PublicKey()
	text := func(c *ssh.Certificate) []byte { return ssh.MarshalAuthorizedKey(c) }
	forged := issue(t, authority, key, ssh.UserCert, nil, "operator")
	forged.ValidPrincipals = []string{"root"}
	short := rsaKey(t, 2048)
	for name, c := range map[string]struct {
		key         any
		certificate []byte
		message     string
	}{
		"expired":         {private, text(issue(t, authority, key, ssh.UserCert, expired, "operator")), "the certificate expired at"},
		"of another key":  {private, text(issue(t, authority, other.PublicKey(), ssh.UserCert, nil, "operator")), "of another key: it certifies " + ssh.FingerprintSHA256(other.PublicKey())},
		"for hosts":       {private, text(issue(t, authority, key, ssh.HostCert, nil, "operator")), "one for hosts"},
		"forged":          {private, text(forged), "does not verify"},
		"a plain key":     {private, ssh.MarshalAuthorizedKey(key), "a plain public key"},
		"nonsense":        {private, []byte("-----BEGIN SECRET-----"), "cannot be read"},
		"without its key": {nil, text(issue(t, authority, key, ssh.UserCert, nil, "operator")), "no private key"},
		"of a short key":  {short, text(issue(t, authority, signerOf(t, short).PublicKey(), ssh.UserCert, nil, "operator")), "2048 bits and needs 3072"},
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, nil)
			config := host.dialConfig()
			config.Certificate = c.certificate
			if c.key != nil {
				config.PrivateKey = privateKey(t, c.key, "")
			}
			refused := &transport.CredentialsError{}
			err := dialError(t, config)
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, c.message)
			require.False(t, strings.Contains(err.Error(), "SECRET"))
			require.Zero(t, host.accepted.Load(), "nothing is sent")
		})
	}
}

// TestUserCertificateOfTheFuture waits for its time, as an unreachable host is waited for.
func TestUserCertificateOfTheFuture(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	host := newFakeHost(t, nil)
	config := host.dialConfig()
	config.PrivateKey = privateKey(t, private, "")
	config.Certificate = ssh.MarshalAuthorizedKey(issue(t, newSigner(t), signerOf(t, private).PublicKey(), ssh.UserCert, notYet, "operator"))
	unreachable := &transport.UnreachableError{}
	err = dialError(t, config)
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "the certificate is valid from")
	require.Zero(t, host.accepted.Load())
}

func TestShortHostKeyIsRefused(t *testing.T) {
	short := shortRSA(t)
	host := newFakeHost(t, func(h *fakeHost) { h.key = short })
	config := host.dialConfig()
	require.ErrorContains(t, dialError(t, config), "pinned host key 1: the RSA key has 2048 bits and needs 3072")
	config.HostKeys = nil
	trust := &transport.TrustError{}
	err := dialError(t, config)
	require.ErrorAs(t, err, &trust)
	require.Equal(t, transport.TrustMismatch, trust.Reason, "nothing that may be pinned")
	require.ErrorContains(t, err, "2048 bits")
	require.Zero(t, host.authBytes.Load())
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"db1", "db1", true}, {"DB1", "db1", true}, {"db1", "db10", false}, {"db10", "db1", false},
		{"*", "anything", true}, {"*", "", true}, {"", "", true}, {"", "x", false},
		{"*.example", "a.b.example", true}, {"*.example", "example", false}, {"a*c*e", "abcde", true}, {"a*c*e", "abde", false},
		{"db?", "db1", true}, {"db?", "db", false}, {"[h]:1", "[h]:1", true}, {"[h]:1", "h:1", false}, {"**a", "a", true}, {"a**", "a", true},
	} {
		require.Equal(t, c.want, matches(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}
