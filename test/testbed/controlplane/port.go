package controlplane

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// port is a TCP port that stays ours between its choice and its use, and while
// the server that uses it restarts. It is a socket that is bound but does not
// listen: the kernel gives the port to nobody else, and the server may still bind
// it, as both set SO_REUSEPORT and belong to one user (socket(7)).
type port struct {
	number int
	socket int
}

func reservePort(address net.IP) (*port, error) {
	family, to := socketAddress(address)
	socket, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	unix.CloseOnExec(socket)
	number, err := bind(socket, to)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reserve a port of %s: %w", address, err), unix.Close(socket))
	}
	return &port{number: number, socket: socket}, nil
}

func (p *port) release() error {
	if p.socket < 0 {
		return nil
	}
	err := unix.Close(p.socket)
	p.socket = -1
	return err
}

func bind(socket int, to unix.Sockaddr) (int, error) {
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(socket, to); err != nil {
		return 0, err
	}
	bound, err := unix.Getsockname(socket)
	if err != nil {
		return 0, err
	}
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		return bound.Port, nil
	case *unix.SockaddrInet6:
		return bound.Port, nil
	default:
		return 0, fmt.Errorf("a socket address of type %T", bound)
	}
}

func socketAddress(address net.IP) (int, unix.Sockaddr) {
	if v4 := address.To4(); v4 != nil {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(v4)}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(address.To16())}
}
