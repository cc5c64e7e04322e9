package credential

// Credentials let the operator into a host. Formatting them prints no secret.
type Credentials struct {
	Username   string
	Password   string
	PrivateKey []byte // PEM or OpenSSH format
	Passphrase string
	// Certificate of PrivateKey's public half, signed by an authority that the host trusts:
	// "ssh-ed25519-cert-v01@openssh.com AAAA...".
	Certificate []byte
	// BecomePassword is what sudo is given if it asks.
	BecomePassword string
	// ClientCertificate and ClientKey, PEM, authenticate to a WinRM listener.
	ClientCertificate, ClientKey []byte
	// Revision is the Secret's UID and resource version. Unlike Version it means the same to
	// every process; it also changes when only the Secret's labels do.
	Revision string
	// Version changes whenever the credentials do, and only then: a Secret whose
	// labels change does not make anybody try a refused password once more. It
	// is a digest under a key of this process, so it tells nothing of the
	// content, and means nothing to another process.
	Version string
}

// String implements fmt.Stringer without the secrets.
func (c Credentials) String() string { return "credentials of " + c.Username + " [redacted]" }

// GoString implements fmt.GoStringer without the secrets.
func (c Credentials) GoString() string { return c.String() }

// MarshalJSON implements json.Marshaler without the secrets.
func (c Credentials) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }
