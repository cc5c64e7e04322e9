package credential

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Lacking says what the Secret of a Host does not hold although its way to log
// in needs it: `has no key "tls.key", which authentication Certificate needs`; empty: all is there.
func Lacking(spec v1alpha1.HostSpec, c Credentials) string {
	if spec.SSH != nil {
		return lackingForSSH(spec.SSH, c)
	}
	if spec.WinRM == nil {
		return ""
	}
	if spec.WinRM.Authentication == v1alpha1.ClientCertificate {
		return lackingForCertificate(c)
	}
	return lacking("authentication "+string(spec.WinRM.Authentication), map[string]bool{
		UsernameKey: c.Username != "", PasswordKey: c.Password != "",
	})
}

func lackingForSSH(ssh *v1alpha1.SSHTransport, c Credentials) string {
	switch {
	case c.Username == "" && ssh.User == "":
		return fmt.Sprintf("has no key %q, and spec.ssh.user is not set", UsernameKey)
	case len(c.PrivateKey) == 0 && len(c.Certificate) > 0:
		return fmt.Sprintf("has a key %q, and no key %q that it is the certificate of", CertificateKey, PrivateKeyKey)
	case len(c.PrivateKey) == 0 && c.Password == "":
		return fmt.Sprintf("has neither a key %q nor a key %q, one of which SSH needs", PrivateKeyKey, PasswordKey)
	}
	return ""
}

func lackingForCertificate(c Credentials) string {
	lacks := lacking("authentication Certificate", map[string]bool{
		ClientCertificateKey: len(c.ClientCertificate) > 0, ClientKeyKey: len(c.ClientKey) > 0,
	})
	if lacks != "" {
		return lacks
	}
	if _, err := tls.X509KeyPair(c.ClientCertificate, c.ClientKey); err != nil {
		// The error of package tls says nothing of the content, but that is no promise of its.
		return fmt.Sprintf("has keys %q and %q that are not a certificate and its private key in PEM format", ClientCertificateKey, ClientKeyKey)
	}
	return ""
}

// lacking names the keys that are not there, in the order of their names.
func lacking(what string, there map[string]bool) string {
	var absent []string
	for _, key := range []string{ClientCertificateKey, ClientKeyKey, UsernameKey, PasswordKey} {
		if present, needed := there[key]; needed && !present {
			absent = append(absent, fmt.Sprintf("%q", key))
		}
	}
	switch len(absent) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("has no key %s, which %s needs", absent[0], what)
	}
	return fmt.Sprintf("has no keys %s, which %s needs", strings.Join(absent, " and "), what)
}
