package ssh

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

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
	signers   []ssh.Signer // the certificate first, where there is one
	certified bool
	password  string
	// lost reports why the connection is broken, if it is: the library takes a
	// lost connection for a refusal and asks for the next method.
	lost    func() error
	tried   []string
	reason  string // what the host wants that we do not have, once it is known
	banners int
	// exhausted: all that the host would hear was said.
	exhausted bool
}

// newAuthenticator finds what is wrong with the credentials themselves.
func newAuthenticator(config Config, now time.Time) (*authenticator, error) {
	a := &authenticator{password: config.Password, lost: func() error { return nil }}
	err := a.load(config, now)
	if notYet := (&notYetError{}); errors.As(err, &notYet) {
		return nil, &transport.UnreachableError{Address: config.Address, Err: err}
	}
	if err != nil {
		return nil, &transport.CredentialsError{Method: "publickey, not offered: " + err.Error(), User: config.User, Err: err}
	}
	return a, nil
}

func (a *authenticator) load(config Config, now time.Time) error {
	if len(config.PrivateKey) == 0 {
		if len(config.Certificate) > 0 {
			return errors.New("there is a certificate and no private key")
		}
		return nil
	}
	signer, err := parseSigner(config.PrivateKey, config.Passphrase)
	if err != nil {
		return err
	}
	a.signers = []ssh.Signer{signer}
	if len(config.Certificate) == 0 {
		return nil
	}
	certified, err := certify(config.Certificate, signer, now)
	if err != nil {
		return err
	}
	a.signers, a.certified = []ssh.Signer{certified, signer}, true
	return nil
}

// next implements ssh.ClientAuthCallback.
func (a *authenticator) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if err := a.lost(); err != nil {
		return nil, err
	}
	if a.banners > mostBanners {
		return nil, errBanners
	}
	switch {
	case len(a.signers) > 0 && a.open(c, publicKey):
		a.tried = append(a.tried, publicKey)
		return ssh.PublicKeys(a.signers...), nil
	case a.password != "" && !a.passwordTried() && a.open(c, password):
		a.tried = append(a.tried, password)
		return ssh.Password(a.password), nil
	case a.password != "" && !a.passwordTried() && a.open(c, keyboardInteractive):
		a.tried = append(a.tried, keyboardInteractive)
		return ssh.KeyboardInteractive(a.answer()), nil
	default:
		// Nothing is left, so the library ends with what the last method came to.
		a.exhausted = true
		return nil, nil
	}
}

// mostBanners is far more than any host has to say before it lets us in.
const mostBanners = 32

var errBanners = errors.New("the host sends one banner after the other instead of an answer")

// banner reads past what hosts say to people, but not for ever.
func (a *authenticator) banner(string) error {
	if a.banners++; a.banners > mostBanners {
		return errBanners
	}
	return nil
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
	var notices []string // what was said since without a question
	return func(name, instruction string, questions []string, echos []bool) ([]string, error) {
		notices = append(notices, name, instruction)
		switch {
		case len(questions) == 0:
			notices = notices[max(0, len(notices)-mostBanners):]
			return nil, nil
		case slices.ContainsFunc(questions, newPassword.MatchString),
			given && slices.ContainsFunc(append(notices, questions...), changePassword.MatchString):
			a.reason = passwordExpired
			return nil, errRefused
		case !given && len(questions) == 1 && !echos[0]:
			given, notices = true, nil
			return []string{a.password}, nil
		case !given || len(questions) != 1 || echos[0]:
			a.reason = "the host asks for more than a password"
		}
		return nil, errRefused
	}
}

const passwordExpired = "the password has expired and the host wants a new one"

// How PAM modules ask for another password: Linux-PAM, "Current password:" and
// "New password:" after "You are required to change your password immediately"; older
// ones, "(current) UNIX password:"; FreeBSD, "Old Password:". Before the
// password was given, a warning that it is to be changed soon is only that.
var (
	newPassword    = regexp.MustCompile(`(?i)\b(new|retype|re-enter)\b.{0,40}\bpassword`)
	changePassword = regexp.MustCompile(`(?i)(old|current|change)\b.{0,40}\bpassword|password.{0,40}\b(expired|changed?)\b`)
)

func (a *authenticator) methods() string {
	if len(a.tried) == 0 {
		return "no method that the host accepts"
	}
	text := strings.Join(a.tried, ", ")
	if a.certified {
		text = strings.Replace(text, publicKey, publicKey+" with the certificate and without", 1)
	}
	if a.reason != "" {
		text += ": " + a.reason
	}
	return text
}

// disconnectedForAuth matches the disconnections by which servers end an
// authentication: a protocol error (OpenSSH: too many authentication failures)
// and no more authentication methods available. RFC 4253, section 11.1.
var disconnectedForAuth = regexp.MustCompile(`ssh: disconnect, reason (2|14):`)

// changeRequested is what the library makes of SSH_MSG_USERAUTH_PASSWD_CHANGEREQ (RFC 4252, section 8).
const changeRequested = "unexpected message type 60"

// refused tells a refusal from any other end of a handshake.
func (a *authenticator) refused(err error) bool {
	if errors.Is(err, errBanners) {
		return false
	}
	if len(a.tried) > 0 && a.reason == "" && strings.Contains(err.Error(), changeRequested) {
		a.reason = passwordExpired
	}
	return a.exhausted || errors.Is(err, errRefused) || len(a.tried) > 0 && disconnectedForAuth.MatchString(err.Error())
}

func parseSigner(pem []byte, passphrase string) (ssh.Signer, error) {
	signer, err := parsePrivateKey(pem, passphrase)
	if err != nil {
		return nil, err
	}
	if signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return signer, nil
	}
	if err := tooShort(signer.PublicKey()); err != nil {
		return nil, err
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
