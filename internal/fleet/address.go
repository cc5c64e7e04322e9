package fleet

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// AddressError says that an address is in a range that the operator does not
// connect to. It is final until the Host or the operator's flags are edited.
type AddressError struct {
	Address netip.Addr
	Range   string // "loopback", "link-local", ...
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("address %s is %s, and the operator does not connect there unless it is started to allow it", e.Address, e.Range)
}

// AddressPolicy says which addresses the operator connects to. Without it the
// author of a Host could look at the operator's own Pod, its node, or the
// cloud's metadata service through the operator's eyes. It judges resolved
// addresses at the moment of connecting, so a name that changes its mind
// between two look-ups gains nothing.
type AddressPolicy struct {
	allowed []netip.Prefix
}

// NewAddressPolicy refuses special ranges, but for those that are allowed.
func NewAddressPolicy(allowed []netip.Prefix) AddressPolicy {
	return AddressPolicy{allowed: allowed}
}

// metadata services of clouds that are not link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	compatible  = netip.MustParsePrefix("::/96")        // IPv4-compatible IPv6, RFC 4291 section 2.5.5.1
	translated  = netip.MustParsePrefix("64:ff9b::/96") // NAT64, RFC 6052
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// Check returns an AddressError for an address that is refused.
func (p AddressPolicy) Check(address netip.Addr) error {
	plain := embedded(address.WithZone("").Unmap())
	for _, prefix := range p.allowed {
		if prefix.Contains(plain) {
			return nil
		}
	}
	if name := special(plain); name != "" {
		return &AddressError{Address: address, Range: name}
	}
	return nil
}

// Control is a net.Dialer's Control: it refuses before the first packet.
func (p AddressPolicy) Control(_, address string, _ syscall.RawConn) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address %q: %w", address, err)
	}
	return p.Check(parsed.Addr())
}

// Dialer connects within the policy.
func (p AddressPolicy) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: p.Control}
}

// embedded returns the IPv4 address that an IPv6 one stands for, if it does.
func embedded(address netip.Addr) netip.Addr {
	if address.Is4() || address == netip.IPv6Loopback() || address.IsUnspecified() {
		return address
	}
	if compatible.Contains(address) || translated.Contains(address) {
		bytes := address.As16()
		return netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return address
}

func special(address netip.Addr) string {
	for _, service := range metadata {
		if address == service {
			return "a metadata service"
		}
	}
	switch {
	case address.IsLoopback():
		return "loopback"
	case address.IsUnspecified(), thisNetwork.Contains(address):
		return "unspecified"
	case address.IsMulticast(), address == broadcast:
		return "multicast"
	case address.IsLinkLocalUnicast():
		return "link-local"
	}
	return ""
}
