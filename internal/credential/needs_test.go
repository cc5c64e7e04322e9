package credential_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
)

func TestLacking(t *testing.T) {
	certificate, key := pair(t)
	_, other := pair(t)
	ssh := func(user string) v1alpha1.HostSpec {
		return v1alpha1.HostSpec{SSH: &v1alpha1.SSHTransport{User: user}}
	}
	winrm := func(authentication v1alpha1.WinRMAuthentication) v1alpha1.HostSpec {
		return v1alpha1.HostSpec{WinRM: &v1alpha1.WinRMTransport{Authentication: authentication}}
	}
	const pairless = `has keys "tls.crt" and "tls.key" that are not a certificate and its private key in PEM format`
	tests := []struct {
		spec        v1alpha1.HostSpec
		credentials credential.Credentials
		lacks       string
	}{
		{ssh("deploy"), credential.Credentials{Password: canary}, ""},
		{ssh(""), credential.Credentials{Username: "ann", PrivateKey: []byte(canary), Certificate: []byte("c")}, ""},
		{ssh(""), credential.Credentials{Password: canary}, `has no key "username", and spec.ssh.user is not set`},
		{ssh("deploy"), credential.Credentials{Username: "ann"}, `has neither a key "ssh-privatekey" nor a key "password", one of which SSH needs`},
		{ssh("deploy"), credential.Credentials{Password: canary, Certificate: []byte("c")}, `has a key "ssh-certificate", and no key "ssh-privatekey" that it is the certificate of`},
		{winrm(v1alpha1.Basic), credential.Credentials{Username: "ann", Password: canary}, ""},
		{winrm(v1alpha1.Basic), credential.Credentials{Password: canary}, `has no key "username", which authentication Basic needs`},
		{winrm(v1alpha1.NTLM), credential.Credentials{PrivateKey: []byte("k")}, `has no keys "username" and "password", which authentication NTLM needs`},
		{winrm(v1alpha1.KerberosTicket), credential.Credentials{Username: "ann"}, `has no key "password", which authentication Kerberos needs`},
		{winrm(v1alpha1.ClientCertificate), credential.Credentials{ClientCertificate: certificate, ClientKey: key}, ""},
		{winrm(v1alpha1.ClientCertificate), credential.Credentials{ClientCertificate: certificate}, `has no key "tls.key", which authentication Certificate needs`},
		{winrm(v1alpha1.ClientCertificate), credential.Credentials{ClientCertificate: certificate, ClientKey: other}, pairless},
		{winrm(v1alpha1.ClientCertificate), credential.Credentials{ClientCertificate: []byte(canary), ClientKey: []byte(canary)}, pairless},
	}
	for _, test := range tests {
		assert.Equal(t, test.lacks, credential.Lacking(test.spec, test.credentials))
	}
}

func pair(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}
