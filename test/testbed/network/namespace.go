package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaceDir is where ip-netns(8) keeps named network namespaces.
const namespaceDir = "/var/run/netns"

// Namespace is a network namespace with one interface, eth0, on the bridge: to the
// rest of the network it is a machine.
type Namespace struct {
	network *Network
	name    string
	address netip.Addr
}

// Namespace makes a namespace with an address of its own. The name is one word,
// unique in this network.
func (n *Network) Namespace(ctx context.Context, name string) (*Namespace, error) {
	address := n.Next()
	if !address.IsValid() {
		return nil, fmt.Errorf("make network namespace %s: no address is left", name)
	}
	ns := &Namespace{network: n, name: n.bridge + "-" + name, address: address}
	veth := fmt.Sprintf("is%s-%d", n.id, address.As4()[3])
	// The kernel deletes the interfaces of a namespace some time after it: the
	// janitor, which goes backwards, has to delete the interface first.
	if err := errors.Join(n.janitor.Namespace(ns.name), n.janitor.Link(veth)); err != nil {
		return nil, err
	}
	prefix := netip.PrefixFrom(address, n.Prefix().Bits()).String()
	for _, args := range [][]string{
		{"netns", "add", ns.name},
		{"link", "add", veth, "type", "veth", "peer", "name", "eth0", "address", HardwareAddr(address).String(), "netns", ns.name},
		{"link", "set", veth, "master", n.bridge, "addrgenmode", "none", "up"},
		{"-netns", ns.name, "link", "set", "lo", "up"},
		{"-netns", ns.name, "address", "add", prefix, "dev", "eth0"},
		{"-netns", ns.name, "link", "set", "eth0", "addrgenmode", "none", "up"},
		{"-netns", ns.name, "route", "add", "default", "via", n.Address().String()},
	} {
		if _, err := ip(ctx, args...); err != nil {
			return nil, fmt.Errorf("make network namespace %s: %w", name, err)
		}
	}
	return ns, nil
}

// Name is the name that ip-netns(8) knows the namespace by.
func (ns *Namespace) Name() string { return ns.name }

// Address is the address of the namespace in the network.
func (ns *Namespace) Address() netip.Addr { return ns.address }

// Argv is a command that becomes argv, under the same PID, in the namespace.
func (ns *Namespace) Argv(argv ...string) []string {
	return append([]string{"ip", "netns", "exec", ns.name}, argv...)
}

// Command runs argv in the namespace. Whoever starts it records it with the
// janitor; the janitor also ends what is left in a namespace.
func (ns *Namespace) Command(ctx context.Context, argv ...string) *exec.Cmd {
	inside := ns.Argv(argv...)
	return exec.CommandContext(ctx, inside[0], inside[1:]...)
}

// Do calls f on a thread that is in the namespace. Sockets that f opens stay there
// after it has returned; goroutines that f starts are outside.
func (ns *Namespace) Do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := ns.enter(f)
		// A thread that could not be brought back ends with this goroutine instead
		// of carrying the namespace to another one.
		if back {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// enter calls f in the namespace and comes back. Coming back matters: the first
// thread of a process never ends, and a process whose first thread is in the
// namespace counts as one of those that are ended with it.
func (ns *Namespace) enter(f func() error) (back bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, fmt.Errorf("remember the network namespace: %w", err)
	}
	defer home.Close() //nolint:errcheck // only read
	file, err := os.Open(filepath.Join(namespaceDir, ns.name))
	if err != nil {
		return true, fmt.Errorf("enter network namespace: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter network namespace %s: %w", ns.name, err)
	}
	err = f()
	return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
}
