// Package network makes a network for the machines of a test bed: a bridge with
// a subnet of its own, 10.213.N.0/24, that nothing but the test bed uses.
//
// It owns the bridge, the network namespaces on it, the routes through it and one
// nftables table, all of them in the janitor's journal before they exist.
//
// It promises that two test beds on one machine never get the same subnet, and
// that Cut loses packets in silence, both ways and for connections that are open:
// address resolution goes on, so nobody is told that the machine is gone.
//
// It must never touch an interface, a route or a firewall table that it did not
// make, and never the machine's own forwarding.
package network
