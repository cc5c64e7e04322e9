package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

func dialError(t *testing.T, config Config) error {
	t.Helper()
	client, err := Dial(context.Background(), config)
	if err == nil {
		_ = client.Close()
	}
	require.Error(t, err)
	for _, secret := range []string{config.Password, config.Passphrase} {
		if secret != "" {
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), secret)
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", config, config, config), secret)
		}
	}
	requireJoined(t)
	return err
}

func TestDial(t *testing.T) {
	host := newFakeHost(t, nil)
	client := host.dial(t)
	require.Equal(t, netip.MustParseAddrPort(host.listener.Addr().String()), client.RemoteAddr())
	require.Equal(t, host.hostKey(), client.HostKey())
	require.Eventually(t, func() bool { return running([]string{"ssh.(*Client)"}) }, 3*time.Second, time.Millisecond,
		"what requireJoined looks for must be found while it is there")
	require.NoError(t, client.Close())
	select {
	case <-client.Done():
	default:
		t.Fatal("Done is open after Close")
	}
	requireJoined(t)
}

func TestUnpinnedHostSeesNoAuthentication(t *testing.T) {
	host := newFakeHost(t, nil)
	config := host.dialConfig()
	config.HostKeys = nil
	trust := &transport.TrustError{}
	require.ErrorAs(t, dialError(t, config), &trust)
	require.Equal(t, transport.TrustUnpinned, trust.Reason)
	require.Equal(t, host.hostKey(), trust.Seen)
	require.Equal(t, ssh.FingerprintSHA256(host.key.PublicKey()), trust.Fingerprint)
	require.Zero(t, host.authBytes.Load())
}

func TestChangedHostSeesNoAuthentication(t *testing.T) {
	host := newFakeHost(t, nil)
	config := host.dialConfig()
	config.HostKeys = []string{keyLine(newSigner(t).PublicKey()), keyLine(newSigner(t).PublicKey())}
	trust := &transport.TrustError{}
	require.ErrorAs(t, dialError(t, config), &trust)
	require.Equal(t, transport.TrustMismatch, trust.Reason)
	require.Equal(t, host.hostKey(), trust.Seen)
	require.Zero(t, host.authBytes.Load())
}

// TestHostKeyOfAnotherType: nothing in common to negotiate is a mismatch too, and what the host has is told.
func TestHostKeyOfAnotherType(t *testing.T) {
	host := newFakeHost(t, nil)
	pinned, err := ssh.NewSignerFromKey(rsaKey(t, 3072))
	require.NoError(t, err)
	config := host.dialConfig()
	config.HostKeys = []string{keyLine(pinned.PublicKey())}
	trust := &transport.TrustError{}
	require.ErrorAs(t, dialError(t, config), &trust)
	require.Equal(t, transport.TrustMismatch, trust.Reason)
	require.Equal(t, host.hostKey(), trust.Seen)
	require.Zero(t, host.authBytes.Load())
}

// TestOneOfTwoHostKeys: of a host with several keys, the pinned one is asked for.
func TestOneOfTwoHostKeys(t *testing.T) {
	second, err := ssh.NewSignerFromKey(rsaKey(t, 3072))
	require.NoError(t, err)
	host := newFakeHost(t, func(h *fakeHost) { h.config.AddHostKey(second) })
	config := host.dialConfig()
	config.HostKeys = []string{keyLine(second.PublicKey()) + " root@host"}
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	require.Equal(t, keyLine(second.PublicKey()), client.HostKey())
	require.NoError(t, client.Close())
}

func TestPinThatCannotBeRead(t *testing.T) {
	for _, pin := range []string{"nonsense", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3MAAAAA"} {
		trust := &transport.TrustError{}
		require.ErrorAs(t, dialError(t, Config{Address: "127.0.0.1:1", HostKeys: []string{pin}}), &trust, pin)
	}
}

func TestWrongPasswordIsTriedOnce(t *testing.T) {
	for name, change := range map[string]func(*fakeHost){
		"password": func(*fakeHost) {},
		"both": func(h *fakeHost) {
			h.config.KeyboardInteractiveCallback = h.askPassword
		},
		"keyboard-interactive": func(h *fakeHost) {
			h.config.PasswordCallback = nil
			h.config.KeyboardInteractiveCallback = h.askPassword
		},
		"disconnects": func(h *fakeHost) { h.config.MaxAuthTries = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, change)
			config := host.dialConfig()
			config.Password = "wrong-and-secret"
			refused := &transport.CredentialsError{}
			require.ErrorAs(t, dialError(t, config), &refused)
			require.Equal(t, "operator", refused.User)
			require.Equal(t, int32(1), host.passwords.Load())
		})
	}
}

// askPassword asks in the way of PAM.
func (h *fakeHost) askPassword(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	answers, err := ask("", "", []string{"Password: "}, []bool{false})
	if err != nil {
		return nil, err
	}
	h.passwords.Add(1)
	if answers[0] == "right" {
		return nil, nil
	}
	// As PAM does: it asks again. A client that answers is counted.
	if answers, err = ask("", "", []string{"Password: "}, []bool{false}); err == nil && len(answers) > 0 {
		h.passwords.Add(1)
	}
	return nil, errors.New("refused")
}

func TestKeyboardInteractivePassword(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) {
		h.config.PasswordCallback = nil
		h.config.KeyboardInteractiveCallback = h.askPassword
	})
	host.dial(t)
	require.Equal(t, int32(1), host.passwords.Load())
}

func TestPrivateKeyThenPassword(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	accept := false
	keys := 0
	host := newFakeHost(t, func(h *fakeHost) {
		h.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			keys++
			if accept {
				return nil, nil
			}
			return nil, errors.New("refused")
		}
	})
	config := host.dialConfig()
	config.PrivateKey, config.Passphrase = privateKey(t, private, "open-sesame"), "open-sesame"
	config.Password = "wrong"
	refused := &transport.CredentialsError{}
	require.ErrorAs(t, dialError(t, config), &refused)
	require.Equal(t, "publickey, password", refused.Method)
	require.Equal(t, 1, keys)
	accept = true
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.Equal(t, int32(1), host.passwords.Load(), "the password is not sent when the key is enough")
}

func TestRSAKeys(t *testing.T) {
	algorithms := make(chan string, 10)
	host := newFakeHost(t, func(h *fakeHost) {
		h.config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			algorithms <- key.Type()
			return nil, nil
		}
		h.config.PublicKeyAuthAlgorithms = []string{ssh.KeyAlgoRSASHA256}
	})
	config := host.dialConfig()
	config.Password = ""
	config.PrivateKey = privateKey(t, rsaKey(t, 3072), "")
	client, err := Dial(context.Background(), config)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	before := host.authBytes.Load()
	config.PrivateKey = privateKey(t, rsaKey(t, 2048), "")
	err = dialError(t, config)
	require.ErrorContains(t, err, "has 2048 bits and needs 3072")
	require.Equal(t, before, host.authBytes.Load())
}

func TestUnusablePrivateKeys(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	host := newFakeHost(t, nil)
	for name, c := range map[string]struct {
		key        []byte
		passphrase string
		message    string
	}{
		"nonsense":         {[]byte("-----BEGIN SECRET-----"), "", "cannot be read"},
		"no passphrase":    {privateKey(t, private, "open-sesame"), "", "needs a passphrase"},
		"wrong passphrase": {privateKey(t, private, "open-sesame"), "closed-sesame", "does not open"},
	} {
		config := host.dialConfig()
		config.PrivateKey, config.Passphrase = c.key, c.passphrase
		refused := &transport.CredentialsError{}
		err := dialError(t, config)
		require.ErrorAs(t, err, &refused, name)
		require.ErrorContains(t, err, c.message, name)
	}
}

func TestNothingToAuthenticateWith(t *testing.T) {
	host := newFakeHost(t, nil)
	config := host.dialConfig()
	config.Password = ""
	refused := &transport.CredentialsError{}
	require.ErrorAs(t, dialError(t, config), &refused)
}

// TestUnreachable: all that is not a refusal may be tried again.
func TestUnreachable(t *testing.T) {
	for name, change := range map[string]func(*fakeHost){
		"silent":           func(h *fakeHost) { h.silent = true },
		"slow banner":      func(h *fakeHost) { h.bannerDelay = 2 * time.Second },
		"old ciphers":      func(h *fakeHost) { h.config.Ciphers = []string{ssh.InsecureCipherAES128CBC} },
		"old key exchange": func(h *fakeHost) { h.config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1} },
		"old MAC": func(h *fakeHost) {
			h.config.MACs = []string{ssh.HMACSHA1}
			h.config.Ciphers = []string{ssh.CipherAES128CTR}
		},
		"lost at password":    func(h *fakeHost) { h.config.PasswordCallback = h.dropAtPassword },
		"stuck at a password": func(h *fakeHost) { h.config.PasswordCallback = h.stuckAtPassword },
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, change)
			config := host.dialConfig()
			config.DialTimeout = 500 * time.Millisecond
			began := time.Now()
			unreachable := &transport.UnreachableError{}
			require.ErrorAs(t, dialError(t, config), &unreachable)
			require.Less(t, time.Since(began), 1500*time.Millisecond)
		})
	}
}

func (h *fakeHost) dropAtPassword(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
	h.drop()
	return nil, errors.New("dropped")
}

func (h *fakeHost) stuckAtPassword(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
	time.Sleep(time.Second)
	return nil, errors.New("late")
}

func TestDialEndsWithItsContext(t *testing.T) {
	host := newFakeHost(t, func(h *fakeHost) { h.silent = true })
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	_, err := Dial(ctx, host.dialConfig())
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, time.Since(began), time.Second)
	requireJoined(t)
}

// TestAddressPolicy: the caller sees the resolved address, and its error is found again.
func TestAddressPolicy(t *testing.T) {
	host := newFakeHost(t, nil)
	forbidden := errors.New("loopback is forbidden")
	config := host.dialConfig()
	config.Address = strings.Replace(config.Address, "127.0.0.1", "localhost", 1)
	var seen string
	config.Control = func(_, address string, _ syscall.RawConn) error {
		seen = address
		return forbidden
	}
	err := dialError(t, config)
	unreachable := &transport.UnreachableError{}
	require.ErrorAs(t, err, &unreachable)
	require.ErrorIs(t, err, forbidden)
	ip, _, err := net.SplitHostPort(seen)
	require.NoError(t, err)
	require.True(t, netip.MustParseAddr(ip).IsLoopback())
	require.Zero(t, host.authBytes.Load())
}
