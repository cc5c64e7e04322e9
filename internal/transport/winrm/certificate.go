package winrm

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// authorizationMutual announces that the client certificate of the TLS
// handshake says who comes (MS-WSMV, section 2.2.9.2; DSP0226, annex C.3.4).
const authorizationMutual = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"

// loadCertificate reads what Certificate proves. The errors of crypto/tls say
// what is wrong with the PEM blocks, and show nothing of them.
func (config *Config) loadCertificate() error {
	if len(config.ClientCertificate) == 0 || len(config.ClientKey) == 0 {
		return errors.New("authentication Certificate needs a client certificate and its key (tls.crt and tls.key of the Secret)")
	}
	pair, err := tls.X509KeyPair(config.ClientCertificate, config.ClientKey)
	if err != nil {
		return errors.Join(errors.New("the client certificate and key (tls.crt and tls.key of the Secret) cannot be used"), err)
	}
	config.certificates = []tls.Certificate{pair}
	return nil
}

// present is what the TLS handshake asks for. A host that wants certificates of
// authorities that did not sign ours is answered with it all the same: without
// it the host would refuse without saying why.
func (config *Config) present(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if len(config.certificates) == 0 {
		return &tls.Certificate{}, nil
	}
	return &config.certificates[0], nil
}

// refusedCertificate says whether a host has ended the TLS handshake because of
// our certificate, or of its absence. With TLS 1.3 that is heard only when the
// first answer is awaited. Package crypto/tls has no type for the alerts of a
// peer; their texts are its own and not the host's.
func refusedCertificate(err error) bool {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return false
	}
	text := remote.Err.Error()
	return strings.Contains(text, "certificate") || strings.Contains(text, "access denied")
}
