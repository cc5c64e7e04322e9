package winrm

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

func noAnswer(*asked) (int, string) { return fault(87, "w:InvalidParameter", "unexpected") }

func TestDialAuthenticates(t *testing.T) {
	for _, mode := range []string{NTLM, Basic} {
		t.Run(mode, func(t *testing.T) {
			// A proxy of the environment would see the address, so nothing may go there.
			t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
			h := newFakeHost(t, mode, noAnswer)
			c := h.dial()
			if got, want := c.Address().String(), h.server.Listener.Addr().String(); got != want {
				t.Errorf("address %s, want %s", got, want)
			}
			if n := h.count("Identify"); n != 1 {
				t.Errorf("%d Identify requests, want 1", n)
			}
			if mode == NTLM && h.loginCount() != 1 {
				t.Errorf("%d logins, want 1", h.loginCount())
			}
		})
	}
}

func TestWrongPasswordIsTriedOnce(t *testing.T) {
	for _, mode := range []string{NTLM, Basic} {
		t.Run(mode, func(t *testing.T) {
			h := newFakeHost(t, mode, noAnswer)
			config := h.config()
			config.Password = "wrong"
			_, err := Dial(t.Context(), config)
			var refused *transport.CredentialsError
			if !errors.As(err, &refused) {
				t.Fatalf("error %v, want a CredentialsError", err)
			}
			if refused.User != testUser || refused.Method != mode {
				t.Errorf("refused %q %q", refused.User, refused.Method)
			}
			if n := h.loginCount(); n != 1 {
				t.Errorf("%d attempts, want exactly 1", n)
			}
		})
	}
}

func TestRefusalDuringLifeIsRemembered(t *testing.T) {
	h := newFakeHost(t, Basic, func(*asked) (int, string) { return http.StatusUnauthorized, "" })
	c := h.dial()
	before := h.loginCount()
	for range 3 {
		_, err := c.Query(t.Context(), "root/cimv2", "SELECT Name FROM Win32_Service")
		var refused *transport.CredentialsError
		if !errors.As(err, &refused) {
			t.Fatalf("error %v, want a CredentialsError", err)
		}
	}
	if n := h.loginCount() - before; n != 1 {
		t.Errorf("%d attempts after the refusal, want 1", n)
	}
}

func TestUntrustedHostGetsNoCredential(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"other roots": func(c *Config) { c.Roots = x509.NewCertPool() },
		"other name":  func(c *Config) { c.ServerName = "other.example" },
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t, Basic, noAnswer)
			config := h.config()
			change(&config)
			_, err := Dial(t.Context(), config)
			var trust *transport.TrustError
			if !errors.As(err, &trust) {
				t.Fatalf("error %v, want a TrustError", err)
			}
			sum := sha256.Sum256(h.server.Certificate().Raw)
			if trust.Reason != transport.TrustMismatch || trust.Seen != hex.EncodeToString(sum[:]) {
				t.Errorf("reason %s, seen %s", trust.Reason, trust.Seen)
			}
			if n := h.loginCount(); n != 0 {
				t.Errorf("%d credentials were sent", n)
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	h := newFakeHost(t, Basic, noAnswer)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	defer old.Close()
	config := h.config()
	config.Address = old.Listener.Addr().String()
	wantUnreachable(t, config)
}

func TestUnreachable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	h := newFakeHost(t, Basic, noAnswer)
	config := h.config()
	config.Address = closed.Addr().String()
	wantUnreachable(t, config)

	config = h.config()
	forbidden := errors.New("the address is not allowed")
	config.Control = func(string, string, syscall.RawConn) error { return forbidden }
	if err := wantUnreachable(t, config); !errors.Is(err, forbidden) {
		t.Errorf("error %v does not wrap that of Control", err)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	config = h.config()
	config.Address, config.DialTimeout = silent.Addr().String(), 100*time.Millisecond
	wantUnreachable(t, config)
}

func wantUnreachable(t *testing.T, config Config) error {
	t.Helper()
	_, err := Dial(t.Context(), config)
	var unreachable *transport.UnreachableError
	if !errors.As(err, &unreachable) {
		t.Fatalf("error %v, want an UnreachableError", err)
	}
	return err
}

func TestPlainTextCannotBeAskedFor(t *testing.T) {
	reached := make(chan struct{}, 1)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer plain.Close()
	wantUnreachable(t, Config{Address: plain.Listener.Addr().String(), Username: "u", Password: "p", Authentication: Basic})
	select {
	case <-reached:
		t.Error("a request went over plain HTTP")
	default:
	}
}

func TestListenerWithoutNTLM(t *testing.T) {
	h := newFakeHost(t, Basic, noAnswer)
	config := h.config()
	config.Authentication = NTLM
	_, err := Dial(t.Context(), config)
	var refused *transport.CredentialsError
	if !errors.As(err, &refused) || h.loginCount() != 0 {
		t.Fatalf("error %v after %d logins, want a CredentialsError and none", err, h.loginCount())
	}
	if !strings.Contains(err.Error(), "(NTLM, not offered: the listener offers \"Basic") {
		t.Errorf("error %q does not say what the listener offers", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Address: "127.0.0.1:1", Username: "u", Authentication: Basic}
	for name, change := range map[string]func(*Config){
		"no port":     func(c *Config) { c.Address = "host" },
		"no user":     func(c *Config) { c.Username = "" },
		"no scheme":   func(c *Config) { c.Authentication = "" },
		"other":       func(c *Config) { c.Authentication = "Negotiate" },
		"other, case": func(c *Config) { c.Authentication = "basic" },
	} {
		config := good
		change(&config)
		if _, err := Dial(t.Context(), config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRedirectIsRefused(t *testing.T) {
	reached := make(chan struct{}, 1)
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer other.Close()
	h := newFakeHost(t, Basic, func(*asked) (int, string) { return http.StatusFound, other.URL })
	_, err := h.dial().Query(t.Context(), "root/cimv2", "SELECT Name FROM Win32_Service")
	var status *HTTPError
	if !errors.As(err, &status) || status.Status != http.StatusFound {
		t.Errorf("error %v, want an HTTPError 302", err)
	}
	select {
	case <-reached:
		t.Error("the redirect was followed")
	default:
	}
}

func TestSplitUser(t *testing.T) {
	for name, want := range map[string][2]string{
		`user`: {"", "user"}, `DOM\user`: {"DOM", "user"}, `.\user`: {"", "user"}, `user@example.com`: {"", "user@example.com"},
	} {
		if domain, user := splitUser(name); domain != want[0] || user != want[1] {
			t.Errorf("%s: %q %q", name, domain, user)
		}
	}
}

func TestForgottenConnectionAuthenticatesOnceMore(t *testing.T) {
	h := newFakeHost(t, NTLM, func(*asked) (int, string) {
		return http.StatusOK, reply(`<n:EnumerateResponse><w:EndOfSequence/></n:EnumerateResponse>`)
	})
	c := h.dial()
	h.mu.Lock()
	h.forget = true
	h.mu.Unlock()
	if _, err := c.Query(t.Context(), "root/cimv2", "SELECT Name FROM Win32_Service"); err != nil {
		t.Fatal(err)
	}
	if n := h.loginCount(); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
	if n := h.count("Enumerate"); n != 1 {
		t.Errorf("the request was carried out %d times", n)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err = Dial(ctx, Config{Address: silent.Addr().String(), Username: "u", Authentication: Basic})
	if err == nil || time.Since(begun) > time.Second {
		t.Errorf("error %v after %v", err, time.Since(begun))
	}
}

// A status line, headers and interim answers without an end are not read to memory.
func TestHeadersAreBounded(t *testing.T) {
	for begin, endless := range map[string]string{"HTTP/1.1 200 ": "OK", "HTTP/1.1 200 OK\r\n": "X: a\r\n", "": "HTTP/1.1 100 Continue\r\n\r\n"} {
		var taken atomic.Int64
		h := newFakeHost(t, Basic, noAnswer)
		h.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for data := begin; err == nil && taken.Load() < 64<<20; data = strings.Repeat(endless, 1<<12) {
				_, err = io.WriteString(conn, data)
				taken.Add(int64(len(data)))
			}
		})
		_, err := Dial(t.Context(), h.config())
		var unreachable *transport.UnreachableError
		if !errors.As(err, &unreachable) || taken.Load() > 32<<20 {
			t.Errorf("%q: error %v after %d bytes", endless, err, taken.Load())
		}
	}
}
