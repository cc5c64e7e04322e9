package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
)

func sshEndpoint(address string, jump *fleet.Endpoint) fleet.Endpoint {
	return fleet.Endpoint{
		Spec: v1alpha1.HostSpec{Address: address, SSH: &v1alpha1.SSHTransport{
			Port: 22, HostKeyAuthorities: []string{"authority of " + address},
		}, Probe: v1alpha1.HostProbe{Timeout: &metav1.Duration{Duration: time.Duration(len(address)) * time.Minute}}},
		HostKeys:    []string{"key of " + address},
		RequestedAt: "request of " + address,
		Credentials: credential.Credentials{
			Username: "user of " + address, Password: "password of " + address, Version: "version of " + address,
			PrivateKey: []byte("private key of " + address), Certificate: []byte("certificate of " + address),
		},
		Jump: jump,
	}
}

// TestSSHConfigs: each hop has what is its own, and the chain keeps its order.
func TestSSHConfigs(t *testing.T) {
	first := sshEndpoint("first", nil)
	second := sshEndpoint("second", &first)
	target := sshEndpoint("target", &second)
	config, err := sshConfig(target, fleet.AddressPolicy{})
	require.NoError(t, err)
	config.Jump, err = sshJump(target.Jump, fleet.AddressPolicy{}, 1)
	require.NoError(t, err)
	require.NotNil(t, config.Jump.Jump)
	require.Nil(t, config.Jump.Jump.Jump)
	for name, c := range map[string]*ssh.Config{"target": &config, "second": config.Jump, "first": config.Jump.Jump} {
		require.Equal(t, name+":22", c.Address)
		require.Equal(t, "user of "+name, c.User)
		require.Equal(t, "password of "+name, c.Password)
		require.Equal(t, "private key of "+name, string(c.PrivateKey))
		require.Equal(t, "certificate of "+name, string(c.Certificate))
		require.Equal(t, []string{"key of " + name}, c.HostKeys)
		require.Equal(t, []string{"authority of " + name}, c.HostKeyAuthorities)
		require.Equal(t, "request of "+name, c.RequestedAt)
		require.Equal(t, time.Duration(len(name))*time.Minute, c.DialTimeout)
		require.NotNil(t, c.Control)
		require.NotNil(t, c.CheckAddress)
	}
	require.Equal(t, second.Digest(), config.Jump.Version)
	require.Equal(t, first.Digest(), config.Jump.Jump.Version)
}

// TestWaysThatAreRefused, before anything is sent: 192.0.2.0/24 is for documentation.
func TestWaysThatAreRefused(t *testing.T) {
	connect := connector(fleet.NewAddressPolicy([]netip.Prefix{}))
	bastion := sshEndpoint("192.0.2.1", nil)
	var refused *fleet.AddressError

	target := sshEndpoint("169.254.169.254", &bastion)
	target.Spec.SSH.HostKeyAuthorities, target.Credentials.PrivateKey, target.Credentials.Certificate = nil, nil, nil
	_, err := connect(context.Background(), target)
	require.ErrorAs(t, err, &refused)

	hop := sshEndpoint("127.0.0.1", &bastion)
	_, err = connect(context.Background(), sshEndpoint("192.0.2.2", &hop))
	require.ErrorAs(t, err, &refused, "a hop behind another is judged too")

	way := sshEndpoint("192.0.2.9", nil)
	for i := range 8 {
		before := way
		way = sshEndpoint(fmt.Sprint("192.0.2.", i+1), &before)
	}
	_, err = connect(context.Background(), way)
	require.ErrorContains(t, err, "more than 4 jump hosts")

	_, err = connect(context.Background(), sshEndpoint("192.0.2.2", &fleet.Endpoint{Spec: v1alpha1.HostSpec{Address: "winrm"}}))
	require.ErrorContains(t, err, "the jump host winrm has no spec.ssh")
}
