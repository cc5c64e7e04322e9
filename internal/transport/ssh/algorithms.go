package ssh

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The algorithms are listed here, and not left to the library's defaults, so
// that an upgrade of the library cannot bring an old one back. None uses SHA-1.
var (
	keyExchanges = []string{
		ssh.KeyExchangeMLKEM768X25519,
		ssh.KeyExchangeCurve25519,
		ssh.KeyExchangeECDHP256,
		ssh.KeyExchangeECDHP384,
		ssh.KeyExchangeECDHP521,
		ssh.KeyExchangeDH16SHA512,
		ssh.KeyExchangeDH14SHA256,
	}
	ciphers = []string{
		ssh.CipherAES128GCM,
		ssh.CipherAES256GCM,
		ssh.CipherChaCha20Poly1305,
		ssh.CipherAES128CTR,
		ssh.CipherAES192CTR,
		ssh.CipherAES256CTR,
	}
	macs = []string{
		ssh.HMACSHA256ETM,
		ssh.HMACSHA512ETM,
		ssh.HMACSHA256,
		ssh.HMACSHA512,
	}
	rsaSignatures = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	// hostKeyAlgorithms are asked for, in this order, while nothing is pinned.
	hostKeyAlgorithms = append([]string{
		ssh.KeyAlgoED25519,
		ssh.KeyAlgoECDSA256,
		ssh.KeyAlgoECDSA384,
		ssh.KeyAlgoECDSA521,
	}, rsaSignatures...)
	// certificateAlgorithms are asked for when authorities are trusted. They name
	// the certified key; the authority's own may be of another type.
	certificateAlgorithms = []string{
		ssh.CertAlgoED25519v01,
		ssh.CertAlgoECDSA256v01,
		ssh.CertAlgoECDSA384v01,
		ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01,
		ssh.CertAlgoRSASHA256v01,
	}
)

// minRSABits is what NIST SP 800-57 asks for until 2030 and beyond.
const minRSABits = 3072

// algorithmsFor lists the signatures that a host key of this type can make. A
// host that has keys of several types must be asked for one of the pinned
// types, or it shows another key and looks like an impostor.
func algorithmsFor(keyType string) []string {
	switch keyType {
	case ssh.KeyAlgoRSA:
		return rsaSignatures
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return []string{keyType}
	default:
		return nil
	}
}

// tooShort refuses an RSA key that is too short to be relied on.
func tooShort(key ssh.PublicKey) error {
	public, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	if public, isRSA := public.CryptoPublicKey().(*rsa.PublicKey); isRSA && public.N.BitLen() < minRSABits {
		return fmt.Errorf("the RSA key has %d bits and needs %d; ed25519 is better", public.N.BitLen(), minRSABits)
	}
	return nil
}

// longestOffer bounds what is quoted of a host's list of algorithms, which is of any length.
const longestOffer = 160

// tooWeak explains a failed negotiation: the library's own words are two lists.
func tooWeak(err error) error {
	negotiation := &ssh.AlgorithmNegotiationError{}
	if !errors.As(err, &negotiation) || len(negotiation.SupportedAlgorithms) == 0 {
		return err
	}
	offer := strings.Join(negotiation.RequestedAlgorithms, ",")
	if len(offer) > longestOffer {
		offer = strings.ToValidUTF8(offer[:longestOffer], "") + "..."
	}
	return &weakError{what: negotiation.What, offer: offer, wanted: negotiation.SupportedAlgorithms[0], err: err}
}

// weakError says that a host has no algorithm that can be relied on.
type weakError struct {
	what, offer, wanted string
	err                 error
}

func (e *weakError) Error() string {
	return fmt.Sprintf("the host has no %s that can be relied on (it offers %s): allow a modern one, such as %s, in its SSH server",
		e.what, e.offer, e.wanted)
}

func (e *weakError) Unwrap() error { return e.err }
