package network

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// ruleset is the nftables table of a network. ARP passes: a neighbour that cannot
// be resolved is reported to programs as "no route to host", and a cut machine
// must be silent instead.
const ruleset = `table bridge %s {
	set cut { type ether_addr; }
	chain lost {
		ether type arp accept
		ether saddr @cut drop
		ether daddr @cut drop
	}
	chain forward { type filter hook forward priority -300; jump lost; }
	chain input { type filter hook input priority -300; jump lost; }
	chain output { type filter hook output priority -300; jump lost; }
}
`

// Cut drops all packets to and from the machine at addr, an address of this
// network, until Heal. Cutting twice is as cutting once.
func (n *Network) Cut(ctx context.Context, addr netip.Addr) error {
	if err := n.own(addr); err != nil {
		return fmt.Errorf("cut off %s: %w", addr, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.table {
		if err := n.janitor.Table("bridge", n.bridge); err != nil {
			return err
		}
		if _, err := run(ctx, strings.NewReader(fmt.Sprintf(ruleset, n.bridge)), "nft", "-f", "-"); err != nil {
			return fmt.Errorf("make the table of cut machines: %w", err)
		}
		n.table = true
	}
	if err := n.element(ctx, "add", addr); err != nil {
		return fmt.Errorf("cut off %s: %w", addr, err)
	}
	return nil
}

// Heal undoes Cut. Healing a machine that is not cut off does nothing.
func (n *Network) Heal(ctx context.Context, addr netip.Addr) error {
	if err := n.own(addr); err != nil {
		return fmt.Errorf("heal %s: %w", addr, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.table {
		return nil
	}
	// Deleting what is not there is an error to nft(8), adding what is there is not:
	// both in one transaction make the deletion repeatable.
	if err := n.element(ctx, "add", addr, "delete"); err != nil {
		return fmt.Errorf("heal %s: %w", addr, err)
	}
	return nil
}

// element applies verbs, in one transaction, to the set of cut machines.
func (n *Network) element(ctx context.Context, verb string, addr netip.Addr, more ...string) error {
	var script strings.Builder
	for _, v := range append([]string{verb}, more...) {
		fmt.Fprintf(&script, "%s element bridge %s cut { %s }\n", v, n.bridge, HardwareAddr(addr))
	}
	_, err := run(ctx, strings.NewReader(script.String()), "nft", "-f", "-")
	return err
}

func (n *Network) own(addr netip.Addr) error {
	if !n.Prefix().Contains(addr) {
		return fmt.Errorf("it is not in %s", n.Prefix())
	}
	return nil
}
