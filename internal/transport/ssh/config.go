package ssh

import (
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// Request is that of the package transport.
type Request = transport.Request

// Result is that of the package transport.
type Result = transport.Result

// Config says how a host is reached, who it must be, and who we are.
type Config struct {
	Address string // host:port
	User    string
	// HostKeys are the keys that the host may show, as "ssh-ed25519 AAAA...". When
	// there are none, Dial ends with a TrustError that holds the key it was shown.
	HostKeys []string
	// PrivateKey is tried first, Password after it; either may be empty.
	PrivateKey []byte // PEM or OpenSSH format
	Passphrase string // of PrivateKey
	Password   string
	// DialTimeout bounds connecting, verifying and authenticating together. Default 10 s.
	DialTimeout time.Duration
	// KeepAliveInterval is the time between two questions whether the host is
	// there (default 15 s), KeepAliveTimeout how long the answer may take (default 10 s).
	KeepAliveInterval, KeepAliveTimeout time.Duration
	// Control is net.Dialer.Control: it sees the resolved address before it is
	// connected to, and its error ends the attempt.
	Control func(network, address string, c syscall.RawConn) error
}

// String implements fmt.Stringer without the secrets.
func (c Config) String() string { return "ssh " + c.User + "@" + c.Address + " [redacted]" }

// GoString implements fmt.GoStringer without the secrets.
func (c Config) GoString() string { return c.String() }

const (
	defaultDialTimeout       = 10 * time.Second
	defaultKeepAliveInterval = 15 * time.Second
	defaultKeepAliveTimeout  = 10 * time.Second
)

func (c Config) withDefaults() Config {
	orDefault(&c.DialTimeout, defaultDialTimeout)
	orDefault(&c.KeepAliveInterval, defaultKeepAliveInterval)
	orDefault(&c.KeepAliveTimeout, defaultKeepAliveTimeout)
	return c
}

func orDefault(value *time.Duration, standard time.Duration) {
	if *value <= 0 {
		*value = standard
	}
}
