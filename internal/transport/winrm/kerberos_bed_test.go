package winrm_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman/realm"
)

// newRealm starts a KDC. Without it (no Debian, or no root to install it) the test
// is skipped, and fails in CI.
func newRealm(t *testing.T, encryption string) (*realm.Realm, *realm.Acceptor) {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := realm.Start(ctx, realm.Options{
		Dir: t.TempDir(), Janitor: j, Progress: os.Stderr, Encryption: encryption,
		Users: map[string]string{"operator": "s3cret ü"}, Services: []string{"HTTP/localhost"},
	})
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("this machine lacks something: %v", err)
	}
	acceptor, err := r.NewAcceptor()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(acceptor.Close(), r.Stop(ctx)); err != nil {
			t.Error(err)
		}
	})
	return r, acceptor
}

// kerberosBed is a service that takes tickets of a realm.
func kerberosBed(t *testing.T, scheme string, r *realm.Realm, acceptor wsman.Acceptor) *bed {
	t.Helper()
	b := newBed(t, scheme, func(o *wsman.Options, _ *authority) { o.Acceptor = acceptor })
	b.config.Authentication, b.config.Username, b.config.ServerName = winrm.Kerberos, "operator", "localhost"
	b.config.Realm = winrm.Realm{Name: r.Name(), KDCs: []string{r.Address()}}
	return b
}

// The KDC and the side that accepts and opens are MIT Kerberos.
func TestKerberos(t *testing.T) {
	for _, encryption := range []string{
		"aes256-cts-hmac-sha1-96:normal", "aes128-cts-hmac-sha1-96:normal", "aes256-cts-hmac-sha384-192:normal", "aes128-cts-hmac-sha256-128:normal",
	} {
		r, acceptor := newRealm(t, encryption)
		for _, scheme := range schemes {
			t.Run(scheme+" "+encryption, func(t *testing.T) {
				b := kerberosBed(t, scheme, r, acceptor)
				exercise(t, b.dial())
				if b.FailedLogons() != 0 {
					t.Errorf("%d failed logons", b.FailedLogons())
				}
			})
		}
	}
}

func TestKerberosRefusals(t *testing.T) {
	r, acceptor := newRealm(t, "")
	forbidden := errors.New("the address is not allowed")
	for name, test := range map[string]struct {
		change func(*winrm.Config)
		want   string
	}{
		"wrong password":    {func(c *winrm.Config) { c.Password = "wrong" }, `the host refused user "operator" (Kerberos)`},
		"unknown user":      {func(c *winrm.Config) { c.Username = "nobody" }, `the host refused user "nobody" (Kerberos)`},
		"unknown principal": {func(c *winrm.Config) { c.Realm.ServicePrincipal = "HTTP/other" }, "no principal HTTP/other: set spec.winrm.kerberos.servicePrincipal"},
		"another realm":     {func(c *winrm.Config) { c.Realm.Name = "OTHER.EXAMPLE" }, "Kerberos"},
		"no KDC":            {func(c *winrm.Config) { c.Realm.KDCs = []string{"127.0.0.1:1"} }, "KDC 127.0.0.1:1"},
		"address refused": {func(c *winrm.Config) {
			c.Control = func(_, address string, _ syscall.RawConn) error {
				if address == r.Address() {
					return forbidden
				}
				return nil
			}
		}, "the address is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			b := kerberosBed(t, winrm.HTTP, r, acceptor)
			test.change(&b.config)
			_, err := winrm.Dial(t.Context(), b.config)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if name == "address refused" && !errors.Is(err, forbidden) {
				t.Errorf("error %v does not wrap that of Control", err)
			}
			if n := b.Counters().Requests; n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// A listener that only says that it has accepted has not proved to be the one.
type pretender struct {
	wsman.Acceptor
	answer func([]byte) []byte
}

func (p pretender) Accept(token, bindings []byte) (wsman.SecurityContext, []byte, error) {
	context, answer, err := p.Acceptor.Accept(token, bindings)
	return context, p.answer(answer), err
}

func TestKerberosIsMutual(t *testing.T) {
	r, acceptor := newRealm(t, "")
	var earlier []byte
	for name, change := range map[string]func([]byte) []byte{
		"no proof":  func([]byte) []byte { return nil },
		"noise":     func([]byte) []byte { return []byte(strings.Repeat("\x30", 60)) },
		"one bit":   func(m []byte) []byte { m[len(m)-5] ^= 1; return m },
		"cut":       func(m []byte) []byte { return m[:len(m)-1] },
		"of before": func(m []byte) []byte { earlier, m = m, earlier; return m },
	} {
		for _, scheme := range schemes {
			b := kerberosBed(t, scheme, r, pretender{acceptor, change})
			_, err := winrm.Dial(t.Context(), b.config)
			var broken *winrm.ProtectionError
			if !errors.As(err, &broken) || b.Counters().Requests != 0 {
				t.Errorf("%s, %s: error %v, want a ProtectionError", scheme, name, err)
			}
		}
	}
}

// A relay whose certificate is trusted shows the listener another channel.
func TestKerberosIsBoundToTheChannel(t *testing.T) {
	r, acceptor := newRealm(t, "")
	b := kerberosBed(t, winrm.HTTPS, r, acceptor)
	b.config.Address = relay(t, b.config.Address, b.authority.issue(nil))
	_, err := winrm.Dial(t.Context(), b.config)
	var refused *transport.CredentialsError
	if !errors.As(err, &refused) || b.Counters().Requests != 0 {
		t.Errorf("error %v", err)
	}
}

func TestKerberosSealingIsKept(t *testing.T) {
	r, acceptor := newRealm(t, "")
	for _, trouble := range []wsman.Trouble{wsman.Clear, wsman.Forge} {
		b := kerberosBed(t, winrm.HTTP, r, acceptor)
		c := b.dial()
		b.Inject(wsman.Injection{Action: "M", Trouble: trouble})
		_, err := c.Invoke(t.Context(), "root/cimv2", "X", nil, "M", nil)
		var broken *winrm.ProtectionError
		if !errors.As(err, &broken) {
			t.Errorf("trouble %v: error %v, want a ProtectionError", trouble, err)
		}
	}
}

// The listener's key changes while a ticket is kept: one new ticket is fetched.
func TestTicketIsReplacedOnce(t *testing.T) {
	r, acceptor := newRealm(t, "")
	refuseOnce := &once{Acceptor: acceptor}
	b := kerberosBed(t, winrm.HTTP, r, refuseOnce)
	c := b.dial()
	refuseOnce.refuse = 1
	b.Inject(wsman.Injection{Action: "M", Trouble: wsman.DropAfter})
	_, _ = c.Invoke(t.Context(), "root/cimv2", "X", nil, "M", nil)
	exercise(t, c)
	if b.FailedLogons() != 1 {
		t.Errorf("%d failed logons, want 1", b.FailedLogons())
	}
}

type once struct {
	wsman.Acceptor
	refuse int
}

func (o *once) Accept(token, bindings []byte) (wsman.SecurityContext, []byte, error) {
	if o.refuse > 0 {
		o.refuse--
		return nil, nil, errors.New("the key has changed")
	}
	return o.Acceptor.Accept(token, bindings)
}

// A KDC that answers nothing does not hold anybody longer than the context.
func TestSilentKDC(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b := newBed(t, winrm.HTTP, nil)
	b.config.Authentication = winrm.Kerberos
	b.config.Realm = winrm.Realm{Name: "CORP.EXAMPLE", KDCs: []string{silent.Addr().String()}}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err = winrm.Dial(ctx, b.config)
	var unreachable *transport.UnreachableError
	if !errors.As(err, &unreachable) || time.Since(begun) > time.Second {
		t.Errorf("error %v after %v", err, time.Since(begun))
	}
}
