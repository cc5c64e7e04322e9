package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/posix"
	"github.com/isthmus-dev/isthmus/internal/machine/windows"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// connector joins a transport and a machine, as an endpoint asks for.
func connector(policy fleet.AddressPolicy) fleet.Connect {
	return func(ctx context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
		switch {
		case endpoint.Spec.SSH != nil:
			return connectSSH(ctx, endpoint, policy)
		case endpoint.Spec.WinRM != nil:
			return connectWinRM(ctx, endpoint, policy)
		}
		return nil, errors.New("the Host has neither spec.ssh nor spec.winrm")
	}
}

func connectSSH(ctx context.Context, endpoint fleet.Endpoint, policy fleet.AddressPolicy) (machine.Machine, error) {
	spec := endpoint.Spec.SSH
	user := spec.User
	if user == "" {
		user = endpoint.Credentials.Username
	}
	client, err := ssh.Dial(ctx, ssh.Config{
		Address:    address(endpoint.Spec.Address, spec.Port),
		User:       user,
		HostKeys:   endpoint.HostKeys,
		PrivateKey: endpoint.Credentials.PrivateKey,
		Passphrase: endpoint.Credentials.Passphrase,
		Password:   endpoint.Credentials.Password,
		Control:    policy.Control,
	})
	if err != nil {
		return nil, err
	}
	host := posix.New(client, posix.Options{
		StateDir:  endpoint.Spec.StateDirectory,
		Become:    become(spec.Become),
		LoginUser: user,
	})
	return introduced{Machine: host, peer: fleet.Peer{
		Address:     client.RemoteAddr().Addr().Unmap().String(),
		HostKey:     client.HostKey(),
		Fingerprint: client.Fingerprint(),
	}}, nil
}

// introduced is a machine that can tell whom it is connected to.
type introduced struct {
	machine.Machine
	peer fleet.Peer
}

// Peer implements fleet.Introduced.
func (m introduced) Peer() fleet.Peer { return m.peer }

func become(spec *v1alpha1.Become) *posix.Become {
	if spec == nil {
		return nil
	}
	return &posix.Become{User: spec.User}
}

func connectWinRM(ctx context.Context, endpoint fleet.Endpoint, policy fleet.AddressPolicy) (machine.Machine, error) {
	spec := endpoint.Spec.WinRM
	roots, err := pool(endpoint.CA)
	if err != nil {
		return nil, err
	}
	client, err := winrm.Dial(ctx, winrm.Config{
		Address:        address(endpoint.Spec.Address, spec.PortOrDefault()),
		ServerName:     spec.ServerName,
		Roots:          roots,
		Username:       endpoint.Credentials.Username,
		Password:       endpoint.Credentials.Password,
		Authentication: string(spec.Authentication),
		Control:        policy.Control,
	})
	if err != nil {
		return nil, err
	}
	host, err := windows.New(client, windows.Options{StateDir: endpoint.Spec.StateDirectory})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return introduced{Machine: host, peer: fleet.Peer{Address: client.Address().Addr().Unmap().String()}}, nil
}

// pool of the authorities in a PEM file; nil, which means the system's roots, for none.
func pool(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("spec.winrm.caRef holds no certificate in PEM format")
	}
	return roots, nil
}

func address(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
