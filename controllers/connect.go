package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/posix"
	"github.com/isthmus-dev/isthmus/internal/machine/windows"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// connector joins a transport and a machine, as an endpoint asks for. All hosts
// behind a jump host share the connection to it, for as long as the process lives.
func connector(policy fleet.AddressPolicy) fleet.Connect {
	jumps := ssh.NewPool()
	return func(ctx context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
		switch {
		case endpoint.Spec.SSH != nil:
			return connectSSH(ctx, endpoint, policy, jumps)
		case endpoint.Spec.WinRM != nil:
			return connectWinRM(ctx, endpoint, policy)
		}
		return nil, errors.New("the Host has neither spec.ssh nor spec.winrm")
	}
}

func connectSSH(ctx context.Context, endpoint fleet.Endpoint, policy fleet.AddressPolicy, jumps *ssh.Pool) (machine.Machine, error) {
	config, err := sshConfig(endpoint, policy)
	if err != nil {
		return nil, err
	}
	if config.Jump, err = sshJump(endpoint.Jump, policy, 1); err != nil {
		return nil, err
	}
	client, err := jumps.Dial(ctx, config)
	if err != nil {
		return nil, err
	}
	host := posix.New(client, posix.Options{
		StateDir:  endpoint.Spec.StateDirectory,
		Become:    become(endpoint.Spec.SSH.Become, endpoint.Credentials.BecomePassword),
		LoginUser: config.User,
	})
	peer := fleet.Peer{HostKey: client.HostKey(), Fingerprint: client.Fingerprint()}
	if remote := client.RemoteAddr(); remote.IsValid() { // A name behind a jump host is looked up there.
		peer.Address = remote.Addr().Unmap().String()
	}
	return introduced{Machine: host, peer: peer}, nil
}

// sshConfig is how an endpoint is reached, but for the way there.
func sshConfig(endpoint fleet.Endpoint, policy fleet.AddressPolicy) (ssh.Config, error) {
	spec := endpoint.Spec.SSH
	if spec == nil {
		return ssh.Config{}, fmt.Errorf("the jump host %s has no spec.ssh", endpoint.Spec.Address)
	}
	user := spec.User
	if user == "" {
		user = endpoint.Credentials.Username
	}
	return ssh.Config{
		Address:            address(endpoint.Spec.Address, spec.Port),
		User:               user,
		HostKeys:           endpoint.HostKeys,
		HostKeyAuthorities: spec.HostKeyAuthorities,
		PrivateKey:         endpoint.Credentials.PrivateKey,
		Passphrase:         endpoint.Credentials.Passphrase,
		Certificate:        endpoint.Credentials.Certificate,
		Password:           endpoint.Credentials.Password,
		RequestedAt:        endpoint.RequestedAt,
		DialTimeout:        dialTimeout(endpoint.Spec),
		Control:            policy.Control,
		CheckAddress:       policy.Check,
	}, nil
}

// sshJump is the way through the jump host, if there is one. The transport says
// what is too long a way; one step more than it allows is enough for that.
func sshJump(endpoint *fleet.Endpoint, policy fleet.AddressPolicy, step int) (*ssh.Config, error) {
	if endpoint == nil || step > ssh.MostJumps+1 {
		return nil, nil
	}
	config, err := sshConfig(*endpoint, policy)
	if err != nil {
		return nil, err
	}
	config.Version = endpoint.Digest()
	config.Jump, err = sshJump(endpoint.Jump, policy, step+1)
	return &config, err
}

// introduced is a machine that can tell whom it is connected to.
type introduced struct {
	machine.Machine
	peer fleet.Peer
}

// Peer implements fleet.Introduced.
func (m introduced) Peer() fleet.Peer { return m.peer }

func become(spec *v1alpha1.Become, password string) *posix.Become {
	if spec == nil {
		return nil
	}
	return &posix.Become{User: spec.User, Password: machine.Secret(password)}
}

func connectWinRM(ctx context.Context, endpoint fleet.Endpoint, policy fleet.AddressPolicy) (machine.Machine, error) {
	roots, err := pool(endpoint.CA)
	if err != nil {
		return nil, err
	}
	client, err := winrm.Dial(ctx, winrmConfig(endpoint, roots, policy))
	if err != nil {
		return nil, err
	}
	host, err := windows.New(client, windows.Options{StateDir: endpoint.Spec.StateDirectory})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return introduced{Machine: host, peer: fleet.Peer{Address: client.Address().Addr().Unmap().String()}}, nil
}

// winrmConfig is what an endpoint says about a WinRM listener. The policy holds
// for the addresses of KDCs as well.
func winrmConfig(endpoint fleet.Endpoint, roots *x509.CertPool, policy fleet.AddressPolicy) winrm.Config {
	spec, credentials := endpoint.Spec.WinRM, endpoint.Credentials
	config := winrm.Config{
		Scheme:            string(spec.Scheme),
		Address:           address(endpoint.Spec.Address, spec.PortOrDefault()),
		ServerName:        spec.ServerName,
		Roots:             roots,
		Username:          credentials.Username,
		Password:          credentials.Password,
		Authentication:    string(spec.Authentication),
		ClientCertificate: credentials.ClientCertificate,
		ClientKey:         credentials.ClientKey,
		DialTimeout:       dialTimeout(endpoint.Spec),
		Control:           policy.Control,
	}
	if spec.Kerberos != nil {
		config.Realm = winrm.Realm{Name: spec.Kerberos.Realm, KDCs: spec.Kerberos.KDCs, ServicePrincipal: spec.Kerberos.ServicePrincipal}
	}
	return config
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

// dialTimeout of a Host that says none is the transport's own.
func dialTimeout(spec v1alpha1.HostSpec) time.Duration {
	if spec.Probe.Timeout == nil {
		return 0
	}
	return spec.Probe.Timeout.Duration
}

func address(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
