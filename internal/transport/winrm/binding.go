package winrm

import (
	"crypto/md5" //nolint:gosec // the structure's hash is given by RFC 4121
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"hash"
)

// endpointBinding binds an authentication to the TLS connection
// (tls-server-end-point, RFC 5929): a proof that was relayed from another
// listener is worth nothing.
func endpointBinding(certificate *x509.Certificate) []byte {
	sum := endpointHash(certificate.SignatureAlgorithm)
	sum.Write(certificate.Raw)
	return sum.Sum([]byte("tls-server-end-point:"))
}

// endpointHash is the hash of the certificate's signature, with SHA-256 in the
// place of MD5 and SHA-1 and where there is none (RFC 5929, section 4.1).
func endpointHash(algorithm x509.SignatureAlgorithm) hash.Hash {
	switch algorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return sha512.New384()
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return sha512.New()
	default:
		return sha256.New()
	}
}

// bindingHash is the MD5 of channel bindings that have application data only
// (RFC 4121, section 4.1.1.2); 16 zeros for none.
func bindingHash(application []byte) []byte {
	if application == nil {
		return make([]byte, md5.Size)
	}
	structure := make([]byte, 16, 20+len(application)) // no initiator, no acceptor address
	structure = binary.LittleEndian.AppendUint32(structure, uint32(len(application)))
	sum := md5.Sum(append(structure, application...)) //nolint:gosec // as above
	return sum[:]
}
