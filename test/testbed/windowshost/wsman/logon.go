package wsman

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// accounts knows who may log on, and counts who tried in vain.
type accounts struct {
	mu       sync.Mutex
	user     string
	password string
	failed   int
}

// lookup finds the password of a user, whose name may have a domain and any case.
func (a *accounts) lookup(user string) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := strings.LastIndexByte(user, '\\'); i >= 0 {
		user = user[i+1:]
	}
	return a.password, strings.EqualFold(user, a.user)
}

func (a *accounts) fail() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed++
}

// connection is the state of one TCP connection: NTLM logs a connection on, not a request.
type connection struct {
	mu       sync.Mutex
	ntlm     *ntlmContext
	loggedOn bool
	keys     protection // of the messages; nil if there are none
	sealed   bool       // the request at hand was
}

// protection opens requests and seals answers.
type protection interface {
	open(signature, sealed []byte) ([]byte, error)
	seal(plain []byte) (signature, sealed []byte, err error)
}

// forget ends a logon.
func (c *connection) forget() {
	if ends, ok := c.keys.(interface{ Close() }); ok {
		ends.Close()
	}
	c.ntlm, c.loggedOn, c.keys = nil, false, nil
}

// mutual says, in place of a scheme, that the client certificate of the TLS
// connection logs on (MS-WSMV 2.2.9.2).
const mutual = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"

type connectionKey struct{}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	return c
}

// logOn tells whether a request may be served. If not it has been answered.
func (s *Server) logOn(w http.ResponseWriter, r *http.Request, c *connection) bool {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "":
		if c.loggedOn {
			return true
		}
	case "basic":
		if s.basic(r) {
			return true
		}
		s.accounts.fail()
	case "ntlm", "negotiate":
		return s.negotiate(w, c, scheme, credentials)
	case mutual:
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			return true
		}
		s.accounts.fail()
	}
	s.refuse(w)
	return false
}

// refuse answers 401 with the schemes that are offered.
func (s *Server) refuse(w http.ResponseWriter) {
	w.Header().Add("WWW-Authenticate", "Negotiate")
	if s.options.Acceptor != nil {
		w.Header().Add("WWW-Authenticate", "Kerberos")
	}
	if s.options.Certificate != nil {
		w.Header().Add("WWW-Authenticate", `Basic realm="WSMAN"`)
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (s *Server) basic(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	if !ok || r.TLS == nil {
		return false
	}
	want, known := s.accounts.lookup(user)
	return known && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
}

// negotiate performs one step of a logon by NTLM or, in SPNEGO, by Kerberos.
func (s *Server) negotiate(w http.ResponseWriter, c *connection, scheme, credentials string) bool {
	message, err := base64.StdEncoding.DecodeString(strings.TrimSpace(credentials))
	if err == nil && len(message) > 0 && message[0] == 0x60 {
		return s.acceptKerberos(w, c, scheme, message)
	}
	if err == nil && len(message) > 8 && message[8] == 1 {
		c.forget()
		c.ntlm = &ntlmContext{machine: s.options.Machine}
		var challenge []byte
		if challenge, err = c.ntlm.begin(message, time.Now()); err == nil {
			if s.options.Challenge != nil {
				challenge = s.options.Challenge(challenge)
			}
			w.Header().Set("WWW-Authenticate", scheme+" "+base64.StdEncoding.EncodeToString(challenge))
			w.WriteHeader(http.StatusUnauthorized)
			return false
		}
	}
	if err != nil || c.ntlm == nil || c.ntlm.finish(message, s.binding, s.options.Binding, s.accounts.lookup) != nil {
		s.accounts.fail()
		c.forget()
		s.refuse(w)
		return false
	}
	keys, err := newNTLMKeys(c.ntlm.key)
	c.loggedOn, c.keys = err == nil, keys
	return err == nil
}

// bindingOf is the channel binding (RFC 5929) of a certificate that was signed with SHA-256.
func bindingOf(certificate []byte) []byte {
	sum := sha256.Sum256(certificate)
	return sum[:]
}
