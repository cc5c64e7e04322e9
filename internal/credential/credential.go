package credential

// Credentials let the operator into a host. Formatting them prints no secret.
type Credentials struct {
	Username   string
	Password   string
	PrivateKey []byte // PEM or OpenSSH format
	Passphrase string
	// Version changes whenever the Secret does (its UID and resourceVersion).
	Version string
}

// String implements fmt.Stringer without the secrets.
func (c Credentials) String() string { return "credentials of " + c.Username + " [redacted]" }

// GoString implements fmt.GoStringer without the secrets.
func (c Credentials) GoString() string { return c.String() }
