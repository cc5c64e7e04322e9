package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

// firstHost and lastHost bound the last octet that Next gives out; .1 is the bridge.
const (
	firstHost = 2
	lastHost  = 254
)

// ErrNotRoot is returned where the test bed lacks the rights to make a network.
var ErrNotRoot = errors.New("making a network of machines needs root")

// Network is a bridge and its subnet.
type Network struct {
	janitor *janitor.Janitor
	id      string // six hexadecimal digits, part of the name of all that belongs here
	bridge  string
	number  byte

	mu    sync.Mutex
	next  int
	table bool // whether the nftables table of Cut exists
}

// New makes a bridge with the first subnet that is free, and gives the bridge its address.
func New(ctx context.Context, j *janitor.Janitor) (*Network, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if err := cache.Packages(ctx, nil, "iproute2", "nftables"); err != nil {
		return nil, err
	}
	var random [3]byte
	_, _ = rand.Read(random[:]) // crypto/rand.Read never fails
	n := &Network{janitor: j, id: hex.EncodeToString(random[:]), next: firstHost}
	n.bridge = "isth-" + n.id
	// The random name is what allows to record the bridge before it exists: a
	// journal must not hold a name that another test bed may own.
	if err := j.Link(n.bridge); err != nil {
		return nil, err
	}
	if _, err := ip(ctx, "link", "add", n.bridge, "type", "bridge"); err != nil {
		return nil, fmt.Errorf("make bridge: %w", err)
	}
	if err := n.claim(ctx); err != nil {
		return nil, err
	}
	if err := n.configure(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// claim finds N. The lock is the alternative name isthN of the bridge: the kernel
// lets one interface only have it, and takes it away with the interface.
func (n *Network) claim(ctx context.Context) error {
	routed, err := routes(ctx)
	if err != nil {
		return err
	}
	for number := range 255 {
		n.number = byte(number)
		if overlaps(routed, n.Prefix()) {
			continue
		}
		_, err := ip(ctx, "link", "property", "add", "dev", n.bridge, "altname", n.Name())
		if exists(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("claim a subnet: %w", err)
		}
		return nil
	}
	return errors.New("claim a subnet: none of 10.213.0.0/24 to 10.213.254.0/24 is free")
}

func (n *Network) configure(ctx context.Context) error {
	// A fixed hardware address: otherwise a bridge takes the lowest of its ports',
	// and machines that come and go would make it unreachable for a while.
	hardware := HardwareAddr(n.Address()).String()
	for _, args := range [][]string{
		{"link", "set", n.bridge, "address", hardware, "addrgenmode", "none"},
		{"address", "add", netip.PrefixFrom(n.Address(), n.Prefix().Bits()).String(), "dev", n.bridge},
		{"link", "set", n.bridge, "up"},
	} {
		if _, err := ip(ctx, args...); err != nil {
			return fmt.Errorf("configure bridge: %w", err)
		}
	}
	return nil
}

// Name is isthN, by which ip(8) knows the bridge too.
func (n *Network) Name() string { return fmt.Sprintf("isth%d", n.number) }

// Bridge is the interface name of the bridge, unique on this machine.
func (n *Network) Bridge() string { return n.bridge }

// ID is a random word that makes the names of other things unique on this machine.
func (n *Network) ID() string { return n.id }

// Address is the bridge's own address, through which machines reach this one.
func (n *Network) Address() netip.Addr { return netip.AddrFrom4([4]byte{10, 213, n.number, 1}) }

// Prefix is the subnet.
func (n *Network) Prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, n.number, 0}), 24)
}

// PodPrefix is a subnet for the Pods of the n-th node (from 0) of this network,
// which no other network gives out.
func (n *Network) PodPrefix(node byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 214 + node, n.number, 0}), 24)
}

// Next gives out an address that was not given out before. After 253 of them it
// returns the zero Addr.
func (n *Network) Next() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next > lastHost {
		return netip.Addr{}
	}
	n.next++
	return netip.AddrFrom4([4]byte{10, 213, n.number, byte(n.next - 1)})
}

// HardwareAddr is the Ethernet address that the owner of an address of a Network
// must use. Cut tells machines apart by it, because a machine also forwards for
// addresses that are not its own, those of Pods.
func HardwareAddr(addr netip.Addr) net.HardwareAddr {
	b := addr.As4()
	// The second lowest bit of the first octet marks a locally administered address.
	return net.HardwareAddr{0x02, 0x69, 0x73, b[1], b[2], b[3]}
}

// RouteVia routes prefix, a Pod subnet, to the machine at via, for this machine and
// for the other machines of the network, whose default route is the bridge.
func (n *Network) RouteVia(ctx context.Context, prefix netip.Prefix, via netip.Addr) error {
	for _, setting := range []string{"forwarding=1", "send_redirects=0"} {
		// The bridge's own settings go with it; the machine's forwarding stays as it is.
		if _, err := run(ctx, nil, "sysctl", "-q", "-w", "net.ipv4.conf."+n.bridge+"."+setting); err != nil {
			return fmt.Errorf("forward on the bridge: %w", err)
		}
	}
	if _, err := ip(ctx, "route", "replace", prefix.String(), "via", via.String(), "dev", n.bridge); err != nil {
		return fmt.Errorf("route %s: %w", prefix, err)
	}
	return nil
}

// routes lists the destinations this machine has a route to, but for the default.
func routes(ctx context.Context) ([]netip.Prefix, error) {
	out, err := ip(ctx, "-json", "-4", "route", "show", "table", "all")
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var rows []struct {
		Dst string `json:"dst"`
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var prefixes []netip.Prefix
	for _, row := range rows {
		if prefix, err := netip.ParsePrefix(row.Dst); err == nil {
			prefixes = append(prefixes, prefix)
		} else if addr, err := netip.ParseAddr(row.Dst); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return prefixes, nil
}

func overlaps(routed []netip.Prefix, prefix netip.Prefix) bool {
	for _, r := range routed {
		if r.Bits() > 0 && r.Overlaps(prefix) {
			return true
		}
	}
	return false
}
