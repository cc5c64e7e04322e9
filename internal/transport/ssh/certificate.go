package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
)

// notYetError says that a certificate will be valid later. Time cures it, so it
// must not become one of the errors that wait for a person: a certificate that was made a moment ago
// by a clock that is a little ahead is common.
type notYetError struct{ from, now time.Time }

func (e *notYetError) Error() string {
	return fmt.Sprintf("the certificate is valid from %s on, and the operator's clock says %s", stamp(e.from), stamp(e.now))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// validAt compares the certificate's time with a clock.
func validAt(certificate *ssh.Certificate, now time.Time) error {
	second := uint64(max(now.Unix(), 0))
	switch {
	case certificate.ValidBefore != ssh.CertTimeInfinity && second >= certificate.ValidBefore:
		return fmt.Errorf("the certificate expired at %s, and the operator's clock says %s", moment(certificate.ValidBefore), stamp(now))
	case second < certificate.ValidAfter:
		return &notYetError{from: unix(certificate.ValidAfter), now: now}
	}
	return nil
}

func moment(second uint64) string { return stamp(unix(second)) }

// unix keeps times within those that can be written down.
func unix(second uint64) time.Time {
	const year9999 = 253402300799
	return time.Unix(int64(min(second, year9999)), 0)
}

// signedWell verifies an authority's signature, whoever the authority is.
func signedWell(certificate *ssh.Certificate, now time.Time) error {
	if certificate.Signature == nil || certificate.Signature.Format == ssh.KeyAlgoRSA {
		return errors.New("the certificate is signed with SHA-1 (sign it with ssh-keygen -t rsa-sha2-512)")
	}
	checker := ssh.CertChecker{Clock: func() time.Time { return now }}
	for option := range certificate.CriticalOptions {
		if certificate.CertType == ssh.UserCert { // They bind the host, which reads them.
			checker.SupportedCriticalOptions = append(checker.SupportedCriticalOptions, option)
		}
	}
	principal := ""
	if len(certificate.ValidPrincipals) > 0 {
		principal = certificate.ValidPrincipals[0]
	}
	if err := checker.CheckCert(principal, certificate); err != nil {
		return fmt.Errorf("the certificate cannot be relied on: %w", err)
	}
	return nil
}

// certify joins a private key and the certificate of its public half. What is
// wrong with the certificate is found here, before anything is sent to a host.
func certify(line []byte, signer ssh.Signer, now time.Time) (ssh.Signer, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, errors.New("the certificate cannot be read: one line is expected, as ssh-keygen -s writes it")
	}
	certificate, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("the certificate is a plain public key: one line is expected, as ssh-keygen -s writes it")
	}
	if certificate.CertType != ssh.UserCert {
		return nil, errors.New("the certificate is one for hosts, not for users")
	}
	if !bytes.Equal(certificate.Key.Marshal(), signer.PublicKey().Marshal()) {
		return nil, fmt.Errorf("the certificate is of another key: it certifies %s, and the private key is %s",
			ssh.FingerprintSHA256(certificate.Key), ssh.FingerprintSHA256(signer.PublicKey()))
	}
	if err := validAt(certificate, now); err != nil {
		return nil, err
	}
	if err := signedWell(certificate, now); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(certificate, signer)
}
