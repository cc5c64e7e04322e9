package ssh

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	publicKey           = "publickey"
	password            = "password"
	keyboardInteractive = "keyboard-interactive"
)

// errRefused says that the host refused all that we have.
var errRefused = errors.New("every method that was offered was refused")

// authenticator chooses the authentication methods of one handshake: each at
// most once, and the password by one method only, for a wrong one that is sent
// twice locks accounts twice as fast.
type authenticator struct {
	signer   ssh.Signer
	password string
	// lost reports why the connection is broken, if it is: the library takes a
	// lost connection for a refusal and asks for the next method.
	lost  func() error
	tried []string
}

func newAuthenticator(config Config, lost func() error) (*authenticator, error) {
	a := &authenticator{password: config.Password, lost: lost}
	if len(config.PrivateKey) == 0 {
		return a, nil
	}
	signer, err := parseSigner(config.PrivateKey, config.Passphrase)
	if err != nil {
		return nil, &transport.CredentialsError{Method: "publickey, not offered: " + err.Error(), User: config.User, Err: err}
	}
	a.signer = signer
	return a, nil
}

// next implements ssh.ClientAuthCallback.
func (a *authenticator) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if err := a.lost(); err != nil {
		return nil, err
	}
	switch {
	case a.signer != nil && a.open(c, publicKey):
		a.tried = append(a.tried, publicKey)
		return ssh.PublicKeys(a.signer), nil
	case a.password != "" && !a.passwordTried() && a.open(c, password):
		a.tried = append(a.tried, password)
		return ssh.Password(a.password), nil
	case a.password != "" && !a.passwordTried() && a.open(c, keyboardInteractive):
		a.tried = append(a.tried, keyboardInteractive)
		return ssh.KeyboardInteractive(a.answer()), nil
	default:
		return nil, errRefused
	}
}

func (a *authenticator) open(c *ssh.ClientAuthContext, method string) bool {
	return slices.Contains(c.AllowedMethods, method) && !slices.Contains(a.tried, method)
}

func (a *authenticator) passwordTried() bool {
	return slices.Contains(a.tried, password) || slices.Contains(a.tried, keyboardInteractive)
}

// answer gives the password to one hidden question and to no other: a second
// one means that the first answer was wrong, or that more than a password is asked for.
func (a *authenticator) answer() ssh.KeyboardInteractiveChallenge {
	given := false
	return func(_, _ string, questions []string, echos []bool) ([]string, error) {
		if len(questions) == 0 {
			return nil, nil
		}
		if given || len(questions) != 1 || echos[0] {
			return nil, errors.New("the host asks for more than a password")
		}
		given = true
		return []string{a.password}, nil
	}
}

func (a *authenticator) methods() string {
	if len(a.tried) == 0 {
		return "no method that the host accepts"
	}
	return strings.Join(a.tried, ", ")
}

// disconnectedForAuth matches the disconnections by which servers end an
// authentication: a protocol error (OpenSSH: too many authentication failures)
// and no more authentication methods available. RFC 4253, section 11.1.
var disconnectedForAuth = regexp.MustCompile(`ssh: disconnect, reason (2|14):`)

// refused tells a refusal from any other end of a handshake.
func (a *authenticator) refused(err error) bool {
	return errors.Is(err, errRefused) || len(a.tried) > 0 && disconnectedForAuth.MatchString(err.Error())
}

func parseSigner(pem []byte, passphrase string) (ssh.Signer, error) {
	signer, err := parsePrivateKey(pem, passphrase)
	if err != nil {
		return nil, err
	}
	key, isCryptoKey := signer.PublicKey().(ssh.CryptoPublicKey)
	if !isCryptoKey || signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return signer, nil
	}
	if public, isRSA := key.CryptoPublicKey().(*rsa.PublicKey); isRSA && public.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("the RSA key has %d bits and needs %d; ed25519 is better", public.N.BitLen(), minRSABits)
	}
	algorithms, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("the RSA key cannot sign with SHA-2")
	}
	return ssh.NewSignerWithAlgorithms(algorithms, rsaSignatures)
}

// parsePrivateKey replaces the library's errors, which describe the content.
func parsePrivateKey(pem []byte, passphrase string) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(pem)
	missing := &ssh.PassphraseMissingError{}
	if !errors.As(err, &missing) {
		if err != nil {
			return nil, errors.New("the private key cannot be read")
		}
		return signer, nil
	}
	if passphrase == "" {
		return nil, errors.New("the private key needs a passphrase")
	}
	if signer, err = ssh.ParsePrivateKeyWithPassphrase(pem, []byte(passphrase)); err != nil {
		return nil, errors.New("the passphrase does not open the private key")
	}
	return signer, nil
}
