package fleet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
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
// author of a Host could look at the operator's own Pod, its node, the Services
// of other tenants, or the cloud's metadata service through the operator's eyes.
// It judges resolved addresses at the moment of connecting, so a name that
// changes its mind between two look-ups gains nothing. Copies share what is
// learnt of the cluster.
type AddressPolicy struct {
	allowed []netip.Prefix
	cluster *atomic.Pointer[[]netip.Prefix]
}

// NewAddressPolicy refuses special ranges, but for those that are allowed.
func NewAddressPolicy(allowed []netip.Prefix) AddressPolicy {
	return AddressPolicy{allowed: plainPrefixes(allowed), cluster: &atomic.Pointer[[]netip.Prefix]{}}
}

// RefuseCluster refuses the ranges of the cluster's Pods and Services, in place
// of those that were refused before. Connections that there are stay.
func (p AddressPolicy) RefuseCluster(ranges []netip.Prefix) {
	plain := plainPrefixes(ranges)
	p.cluster.Store(&plain)
}

// plainPrefixes writes ranges of IPv4 as such, also if they are given as ranges of IPv6.
func plainPrefixes(prefixes []netip.Prefix) []netip.Prefix {
	plain := make([]netip.Prefix, 0, len(prefixes))
	for _, prefix := range prefixes {
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		plain = append(plain, prefix)
	}
	return plain
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
	compatible  = netip.MustParsePrefix("::/96")          // IPv4-compatible IPv6, RFC 4291 section 2.5.5.1
	translated  = netip.MustParsePrefix("64:ff9b::/96")   // NAT64, RFC 6052
	localNAT64  = netip.MustParsePrefix("64:ff9b:1::/48") // NAT64 of a network's own, RFC 8215
	sixToFour   = netip.MustParsePrefix("2002::/16")      // RFC 3056
	teredo      = netip.MustParsePrefix("2001::/32")      // RFC 4380
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// Check returns an AddressError for an address that is refused. Where an IPv6
// address stands for one of IPv4, that one is judged as well: who translates
// between the two would lead there.
func (p AddressPolicy) Check(address netip.Addr) error {
	plain := address.WithZone("").Unmap()
	for _, candidate := range append(embedded(plain), plain) {
		if slices.ContainsFunc(p.allowed, func(allowed netip.Prefix) bool { return allowed.Contains(candidate) }) {
			continue
		}
		if name := p.refused(candidate); name != "" {
			return &AddressError{Address: address, Range: name}
		}
	}
	return nil
}

func (p AddressPolicy) refused(address netip.Addr) string {
	if name := special(address); name != "" {
		return name
	}
	if p.cluster == nil {
		return ""
	}
	if ranges := p.cluster.Load(); ranges != nil {
		for _, prefix := range *ranges {
			if prefix.Contains(address) {
				return "in the cluster's own Pod or Service range"
			}
		}
	}
	return ""
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

// embedded returns the IPv4 addresses that an IPv6 one may stand for.
func embedded(address netip.Addr) []netip.Addr {
	if address.Is4() || address == netip.IPv6Loopback() || address.IsUnspecified() {
		return nil
	}
	b := address.As16()
	last := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case compatible.Contains(address), translated.Contains(address):
		return []netip.Addr{last}
	case localNAT64.Contains(address):
		// Of a network's own prefix only the network knows the length (RFC 6052
		// section 2.2), and where there is no address there are zeros.
		return slices.DeleteFunc([]netip.Addr{
			last,
			netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
			netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
			netip.AddrFrom4([4]byte(b[9:13])),
		}, thisNetwork.Contains)
	case sixToFour.Contains(address):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(address):
		return []netip.Addr{netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	}
	return nil
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
