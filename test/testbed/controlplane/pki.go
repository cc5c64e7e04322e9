package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// lifetime of the certificates: longer than a test bed, too short to be mistaken for production.
const lifetime = 30 * 24 * time.Hour

// skew is how far behind the clock of another machine may be.
const skew = time.Hour

// pki is the certificate authority of one cluster, with its files in a directory.
type pki struct {
	dir    string
	caCert []byte // PEM
	ca     *x509.Certificate
	key    crypto.Signer
}

// credentials are a certificate and its private key in PEM.
type credentials struct{ cert, key []byte }

// newPKI makes the authority and all the files that the control plane's programs read.
func newPKI(dir string, address net.IP, serviceCIDR string) (*pki, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	ca, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "isthmus-testbed", NotBefore: time.Now().Add(-skew)}, key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate authority: %w", err)
	}
	caCert, err := cert.EncodeCertificates(ca)
	if err != nil {
		return nil, fmt.Errorf("encode the certificate authority: %w", err)
	}
	p := &pki{dir: dir, caCert: caCert, ca: ca, key: key}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encode the authority's key: %w", err)
	}
	if err := p.write("ca", credentials{cert: caCert, key: keyPEM}); err != nil {
		return nil, err
	}
	return p, errors.Join(p.writeServer(address, serviceCIDR), p.writeKubeletClient(), p.writeServiceAccountKey())
}

// writeServer makes the API server's certificate, which is valid for the names
// and the cluster IP by which Pods know it.
func (p *pki) writeServer(address net.IP, serviceCIDR string) error {
	_, services, err := net.ParseCIDR(serviceCIDR)
	if err != nil {
		return fmt.Errorf("read the Service CIDR: %w", err)
	}
	// The API server gives the first address of the range to the Service "kubernetes".
	first := append(net.IP(nil), services.IP...)
	first[len(first)-1]++
	server, err := p.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{address, net.IPv4(127, 0, 0, 1), first},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		},
	})
	if err != nil {
		return err
	}
	return p.write("apiserver", server)
}

// writeKubeletClient makes what the API server shows to kubelets, which ask it
// back whether this user may do that (logs, exec): hence the powerful group.
func (p *pki) writeKubeletClient() error {
	client, err := p.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	return p.write("kubelet-client", client)
}

func (p *pki) writeServiceAccountKey() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	private, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return fmt.Errorf("encode the service account key: %w", err)
	}
	if err := keyutil.WriteKey(filepath.Join(p.dir, "service-account.key"), private); err != nil {
		return fmt.Errorf("write the service account key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the public service account key: %w", err)
	}
	return writePEM(filepath.Join(p.dir, "service-account.pub"), keyutil.PublicKeyBlockType, der)
}

// client makes a client certificate: the common name is the user, the organizations are the groups.
func (p *pki) client(user string, groups ...string) (credentials, error) {
	return p.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (p *pki) sign(template *x509.Certificate) (credentials, error) {
	name := template.Subject.CommonName
	key, err := newKey()
	if err != nil {
		return credentials{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return credentials{}, fmt.Errorf("choose a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = p.ca.NotBefore
	template.NotAfter = time.Now().Add(lifetime)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, key.Public(), p.key)
	if err != nil {
		return credentials{}, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	private, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return credentials{}, fmt.Errorf("encode the key of %s: %w", name, err)
	}
	return credentials{cert: encodePEM(cert.CertificateBlockType, der), key: private}, nil
}

func (p *pki) write(name string, c credentials) error {
	if err := cert.WriteCert(filepath.Join(p.dir, name+".crt"), c.cert); err != nil {
		return fmt.Errorf("write the certificate of %s: %w", name, err)
	}
	if err := keyutil.WriteKey(filepath.Join(p.dir, name+".key"), c.key); err != nil {
		return fmt.Errorf("write the key of %s: %w", name, err)
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}
