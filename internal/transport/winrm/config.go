package winrm

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"
)

// The schemes. Over HTTP each message is sealed by NTLM or Kerberos; there is no
// way to write down a connection that carries messages in the clear.
const (
	HTTPS = "HTTPS"
	HTTP  = "HTTP"
)

// The ways to authenticate. Basic sends the password inside TLS, Certificate
// proves a client certificate in the TLS handshake; both need HTTPS.
const (
	NTLM        = "NTLM"
	Kerberos    = "Kerberos"
	Certificate = "Certificate"
	Basic       = "Basic"
)

// Config says how a host is reached. Address and Authentication are required,
// and Username unless a client certificate says who comes.
type Config struct {
	Scheme         string         // HTTPS, the default, or HTTP
	Address        string         // host:port of the listener
	ServerName     string         // in the certificate; empty: the host of Address
	Roots          *x509.CertPool // nil: the system's roots
	Username       string         // user, DOMAIN\user or user@domain
	Password       string
	Authentication string // NTLM, Kerberos, Certificate or Basic
	// ClientCertificate and ClientKey, PEM, are what Certificate proves.
	ClientCertificate, ClientKey []byte
	// Realm says where Kerberos gets its tickets.
	Realm       Realm
	DialTimeout time.Duration // of TCP and TLS together, and of each answer of a KDC; 0: 10 s
	// OperationTimeout is how long the host works at one request before it
	// answers "not yet"; 0: 20 s. It does not limit how long a command runs.
	OperationTimeout time.Duration
	// Control may refuse an address before it is connected to, as in net.Dialer.
	// The addresses of KDCs are shown to it, too.
	Control func(network, address string, c syscall.RawConn) error

	certificates []tls.Certificate
}

// Realm is a Kerberos realm.
type Realm struct {
	Name string   // in upper case
	KDCs []string // host or host:port; port 88 unless given
	// ServicePrincipal of the listener; empty: HTTP/ and the ServerName.
	ServicePrincipal string
}

func (config *Config) complete() error {
	host, _, err := net.SplitHostPort(config.Address)
	if err != nil {
		return fmt.Errorf("address of the WinRM listener: %w", err)
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	if config.Scheme == "" {
		config.Scheme = HTTPS
	}
	if err := config.check(); err != nil {
		return err
	}
	if config.DialTimeout <= 0 {
		config.DialTimeout = defaultDialTimeout
	}
	if config.OperationTimeout <= 0 {
		config.OperationTimeout = defaultOperationTimeout
	}
	config.OperationTimeout = min(config.OperationTimeout, longestOperation)
	if config.Realm.ServicePrincipal == "" {
		config.Realm.ServicePrincipal = "HTTP/" + config.ServerName
	}
	return nil
}

// check refuses what could not be carried out in the way that it is meant.
func (config *Config) check() error {
	switch {
	case config.Scheme != HTTPS && config.Scheme != HTTP:
		return fmt.Errorf("scheme %q: want %s or %s", config.Scheme, HTTPS, HTTP)
	case !slices.Contains([]string{NTLM, Kerberos, Certificate, Basic}, config.Authentication):
		return fmt.Errorf("authentication %q: want %s, %s, %s or %s", config.Authentication, NTLM, Kerberos, Certificate, Basic)
	case config.Scheme == HTTP && config.Authentication != NTLM && config.Authentication != Kerberos:
		return fmt.Errorf("authentication %s cannot seal messages: use %s, or %s or %s over %s", config.Authentication, HTTPS, NTLM, Kerberos, HTTP)
	case config.Authentication == Certificate:
		return config.loadCertificate()
	case config.Username == "":
		return errors.New("a username is required")
	case config.Authentication == Kerberos:
		return config.Realm.check()
	}
	return nil
}

func (r Realm) check() error {
	if r.Name == "" || len(r.KDCs) == 0 {
		return errors.New("authentication Kerberos needs a realm and at least one KDC")
	}
	return nil
}
