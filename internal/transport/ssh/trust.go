package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// pins are what a host may prove itself by.
type pins struct {
	keys        []ssh.PublicKey
	authorities []ssh.PublicKey
	names       []string // of which a certificate must name one
	algorithms  []string // to ask the host for, in this order
}

func parsePins(config Config) (pins, error) {
	p := pins{names: hostNames(config.Address)}
	var err error
	if p.authorities, err = parseKeys("host key authority", config.HostKeyAuthorities); err != nil {
		return pins{}, err
	}
	if p.keys, err = parseKeys("pinned host key", config.HostKeys); err != nil {
		return pins{}, err
	}
	if len(p.authorities) > 0 {
		p.algorithms = slices.Clone(certificateAlgorithms)
	}
	for _, key := range p.keys {
		for _, algorithm := range algorithmsFor(key.Type()) {
			if !slices.Contains(p.algorithms, algorithm) {
				p.algorithms = append(p.algorithms, algorithm)
			}
		}
	}
	if p.none() {
		p.algorithms = hostKeyAlgorithms
	}
	return p, nil
}

func (p pins) none() bool { return len(p.keys) == 0 && len(p.authorities) == 0 }

func parseKeys(what string, lines []string) ([]ssh.PublicKey, error) {
	keys := make([]ssh.PublicKey, 0, len(lines))
	for i, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, untrusted(fmt.Errorf("%s %d cannot be read: %w", what, i+1, err))
		}
		if algorithmsFor(key.Type()) == nil {
			return nil, untrusted(fmt.Errorf("%s %d is of type %s, which is not supported", what, i+1, key.Type()))
		}
		if err := tooShort(key); err != nil {
			return nil, untrusted(fmt.Errorf("%s %d: %w", what, i+1, err))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func untrusted(err error) *transport.TrustError {
	return &transport.TrustError{Reason: transport.TrustMismatch, Fingerprint: "not seen", Err: err}
}

// verifier is the host key callback of one connection: it remembers what it saw in the handshake.
type verifier struct {
	pins pins
	now  time.Time
	// seen is the key, also where a certificate of it was shown. It is written once: a host
	// may ask for new keys, and show its own again, while it is read.
	seen ssh.PublicKey
}

// check is called by a goroutine of the library.
func (v *verifier) check(_ string, _ net.Addr, shown ssh.PublicKey) error {
	_, err := defect.Guard(func() (none struct{}, err error) { return none, v.verify(shown) })
	return err
}

func (v *verifier) verify(shown ssh.PublicKey) error {
	if certificate, ok := shown.(*ssh.Certificate); ok {
		v.remember(certificate.Key)
		return v.checkCertificate(certificate)
	}
	v.remember(shown)
	if err := tooShort(shown); err != nil {
		return v.mismatch(shown, err)
	}
	for _, pinned := range v.pins.keys {
		if bytes.Equal(pinned.Marshal(), shown.Marshal()) {
			return nil
		}
	}
	err := v.mismatch(shown, nil)
	if v.pins.none() {
		err.Reason = transport.TrustUnpinned
	}
	return err
}

func (v *verifier) remember(key ssh.PublicKey) {
	if v.seen == nil {
		v.seen = key
	}
}

func (v *verifier) mismatch(key ssh.PublicKey, err error) *transport.TrustError {
	return &transport.TrustError{
		Reason: transport.TrustMismatch, Seen: keyLine(key), Fingerprint: ssh.FingerprintSHA256(key),
		Accepted: v.pins.String(), Err: err,
	}
}

// checkCertificate follows OpenSSH, but that a certificate without principals
// is good for no host here, and for every host there.
func (v *verifier) checkCertificate(certificate *ssh.Certificate) error {
	if err := v.unfit(certificate); err != nil {
		return v.mismatch(certificate.Key, fmt.Errorf("it shows a certificate of authority %s for %s: %w",
			ssh.FingerprintSHA256(certificate.SignatureKey), principals(certificate), err))
	}
	err := validAt(certificate, v.now)
	if notYet := (&notYetError{}); err == nil || errors.As(err, &notYet) {
		return err
	}
	return v.mismatch(certificate.Key, err)
}

// unfit says why a certificate is none for this host, at whatever time.
func (v *verifier) unfit(certificate *ssh.Certificate) error {
	trusted := func(authority ssh.PublicKey) bool {
		return bytes.Equal(authority.Marshal(), certificate.SignatureKey.Marshal())
	}
	named := func(name string) bool {
		return slices.ContainsFunc(certificate.ValidPrincipals, func(pattern string) bool { return matches(pattern, name) })
	}
	switch {
	case !slices.ContainsFunc(v.pins.authorities, trusted):
		return errors.New("that authority is not trusted")
	case certificate.CertType != ssh.HostCert:
		return errors.New("it is a certificate for users")
	case !slices.ContainsFunc(v.pins.names, named):
		return errors.New("it does not name this host")
	}
	if err := tooShort(certificate.Key); err != nil {
		return err
	}
	// Its time is judged apart.
	return signedWell(certificate, unix(certificate.ValidAfter))
}

// longestList bounds what is quoted of a certificate, which can name hundreds of hosts.
const longestList = 120

func principals(certificate *ssh.Certificate) string {
	if len(certificate.ValidPrincipals) == 0 {
		return "no host"
	}
	text := strings.Join(certificate.ValidPrincipals, ",")
	if len(text) > longestList {
		text = strings.ToValidUTF8(text[:longestList], "") + "..."
	}
	return text
}

// String says what would be accepted.
func (p pins) String() string {
	var accepted []string
	if len(p.keys) > 0 {
		accepted = append(accepted, "key "+fingerprints(p.keys))
	}
	if len(p.authorities) > 0 {
		accepted = append(accepted, fmt.Sprintf("a certificate for %s by authority %s", strings.Join(p.names, " or "), fingerprints(p.authorities)))
	}
	return strings.Join(accepted, ", or ")
}

func fingerprints(keys []ssh.PublicKey) string {
	const most = 3
	var texts []string
	for _, key := range keys[:min(most, len(keys))] {
		texts = append(texts, ssh.FingerprintSHA256(key))
	}
	if len(keys) > most {
		texts = append(texts, "...")
	}
	return strings.Join(texts, " or ")
}

// hostNames are the forms in which certificates name what listens at an address:
// the host, and [host]:port where the port is not the usual one.
func hostNames(address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []string{address}
	}
	names := []string{host}
	if port != "22" {
		names = append(names, "["+host+"]:"+port)
	}
	return names
}

// matches compares a principal with a name as OpenSSH does (PATTERNS in
// ssh_config(5)): * is any text, ? any character, and case does not count.
func matches(pattern, name string) bool {
	pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	star, resume := -1, 0
	p := 0
	for n := 0; n < len(name); {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			resume++
			p, n = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// noPinnedType tells whether a handshake failed because the host has no key of
// a pinned type. What it has instead is then worth another look.
func noPinnedType(err error) bool {
	negotiation := &ssh.AlgorithmNegotiationError{}
	return errors.As(err, &negotiation) && strings.Contains(negotiation.What, "host key")
}

func keyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
