package controllers

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

func winrmEndpoint(spec v1alpha1.WinRMTransport) fleet.Endpoint {
	return fleet.Endpoint{
		Spec: v1alpha1.HostSpec{Address: "127.0.0.1", WinRM: &spec,
			Probe: v1alpha1.HostProbe{Timeout: &metav1.Duration{Duration: 20 * time.Second}}},
		Credentials: credential.Credentials{Username: "u", Password: "p", ClientCertificate: []byte("certificate"), ClientKey: []byte("key")},
	}
}

func TestWinRMConfig(t *testing.T) {
	for name, test := range map[string]struct {
		spec                            v1alpha1.WinRMTransport
		address, scheme, authentication string
	}{
		"defaults":    {v1alpha1.WinRMTransport{Scheme: v1alpha1.HTTPS, Authentication: v1alpha1.NTLM}, "127.0.0.1:5986", winrm.HTTPS, winrm.NTLM},
		"sealed":      {v1alpha1.WinRMTransport{Scheme: v1alpha1.HTTP, Authentication: v1alpha1.NTLM}, "127.0.0.1:5985", winrm.HTTP, winrm.NTLM},
		"basic":       {v1alpha1.WinRMTransport{Scheme: v1alpha1.HTTPS, Authentication: v1alpha1.Basic, Port: 1}, "127.0.0.1:1", winrm.HTTPS, winrm.Basic},
		"certificate": {v1alpha1.WinRMTransport{Authentication: v1alpha1.ClientCertificate}, "127.0.0.1:5986", "", winrm.Certificate},
		"kerberos": {v1alpha1.WinRMTransport{Scheme: v1alpha1.HTTP, Authentication: v1alpha1.KerberosTicket,
			Kerberos: &v1alpha1.Kerberos{Realm: "R", KDCs: []string{"kdc"}, ServicePrincipal: "HTTP/x"}}, "127.0.0.1:5985", winrm.HTTP, winrm.Kerberos},
	} {
		c := winrmConfig(winrmEndpoint(test.spec), nil, fleet.AddressPolicy{})
		if c.Address != test.address || c.Scheme != test.scheme || c.Authentication != test.authentication {
			t.Errorf("%s: %s %s %s", name, c.Address, c.Scheme, c.Authentication)
		}
		if string(c.ClientCertificate) != "certificate" || string(c.ClientKey) != "key" || c.Control == nil {
			t.Errorf("%s: the credentials or the policy are missing", name)
		}
		if c.DialTimeout != 20*time.Second {
			t.Errorf("%s: %s to connect", name, c.DialTimeout)
		}
		if test.spec.Kerberos != nil && (c.Realm.Name != "R" || c.Realm.KDCs[0] != "kdc" || c.Realm.ServicePrincipal != "HTTP/x") {
			t.Errorf("%s: realm %+v", name, c.Realm)
		}
	}
}

// A KDC is an address of the user's choice as much as the host itself: here the
// host's is allowed, and the KDC's is not.
func TestKDCsObeyTheAddressPolicy(t *testing.T) {
	host, hostAsked := listenOn(t, "127.0.0.1:0")
	kdc, kdcAsked := listenOn(t, "127.0.0.2:0")
	endpoint := winrmEndpoint(v1alpha1.WinRMTransport{Scheme: v1alpha1.HTTP, Authentication: v1alpha1.KerberosTicket, Port: int32(host.Port()),
		Kerberos: &v1alpha1.Kerberos{Realm: "CORP.EXAMPLE", KDCs: []string{kdc.String()}}})
	_, err := connectWinRM(t.Context(), endpoint, fleet.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}))
	var refused *fleet.AddressError
	if !errors.As(err, &refused) || refused.Address != kdc.Addr() {
		t.Errorf("error %v, want an AddressError for the KDC", err)
	}
	<-hostAsked
	select {
	case <-kdcAsked:
		t.Error("the KDC was connected to")
	default:
	}
}

// listenOn tells when somebody connects.
func listenOn(t *testing.T, address string) (netip.AddrPort, <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	asked := make(chan struct{}, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			asked <- struct{}{}
			conn.Close()
		}
	}()
	return netip.MustParseAddrPort(listener.Addr().String()), asked
}
