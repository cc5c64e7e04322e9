package ssh

import (
	"net/netip"
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
	// HostKeys are the keys that the host may show, as "ssh-ed25519 AAAA...".
	// HostKeyAuthorities are keys, in the same form, of those whose host certificates are
	// accepted, if they name the host or [host]:port. When there are none of
	// either, Dial ends with a TrustError that holds the key it was shown.
	HostKeys           []string
	HostKeyAuthorities []string
	// PrivateKey is tried first, Password after it; either may be empty.
	PrivateKey []byte // PEM or OpenSSH format
	Passphrase string // of PrivateKey
	// Certificate of PrivateKey's public half, "ssh-ed25519-cert-v01@openssh.com
	// AAAA...", is offered before the bare key.
	Certificate []byte
	Password    string
	// Jump is the SSH server through which the host is reached, which may have a
	// Jump of its own: four at most. Pool.Dial is for it.
	Jump *Config
	// Version changes whenever something that makes the way to a jump host does:
	// configurations of one Version share a connection.
	Version string
	// RequestedAt is when a person asked last for another attempt, in any form. A
	// jump host that has refused its credentials is asked again for another value
	// only, of the host's own or of a jump host's on the way.
	RequestedAt string
	// DialTimeout bounds connecting, verifying and authenticating together. Default 10 s.
	DialTimeout time.Duration
	// KeepAliveInterval is the time between two questions whether the host is
	// there (default 15 s), KeepAliveTimeout how long the answer may take (default 10 s).
	KeepAliveInterval, KeepAliveTimeout time.Duration
	// Control is net.Dialer.Control: it sees the resolved address before it is
	// connected to, and its error ends the attempt. What is reached through a jump
	// host is connected to by that one: CheckAddress is then shown the address if it is no name.
	Control      func(network, address string, c syscall.RawConn) error
	CheckAddress func(address netip.Addr) error
}

// where names the host in errors.
func (c Config) where() string {
	if c.Jump == nil {
		return c.Address
	}
	return c.Address + " through jump host " + c.Jump.Address
}

// request tells the requests of people for this host and for all on the way from others.
func (c Config) request() string {
	text := c.RequestedAt
	for jump := c.Jump; jump != nil; jump = jump.Jump {
		text += "\n" + jump.RequestedAt
	}
	return text
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
