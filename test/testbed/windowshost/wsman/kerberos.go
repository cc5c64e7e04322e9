package wsman

import (
	"encoding/base64"
	"net/http"
)

// Acceptor makes security contexts of Kerberos tickets.
type Acceptor interface {
	// Accept takes the first token of an initiator, in SPNEGO. Bindings are the
	// application data of the TLS channel's bindings, nil without TLS. The answer is
	// the token for the initiator.
	Accept(token, bindings []byte) (context SecurityContext, answer []byte, err error)
}

// SecurityContext opens and seals the messages of one connection.
type SecurityContext interface {
	Open(signature, sealed []byte) ([]byte, error)
	Seal(plain []byte) (signature, sealed []byte, err error)
	Close()
}

// kerberosKeys make a SecurityContext the protection of a connection.
type kerberosKeys struct{ SecurityContext }

func (k kerberosKeys) open(signature, sealed []byte) ([]byte, error) {
	return k.Open(signature, sealed)
}

func (k kerberosKeys) seal(plain []byte) (signature, sealed []byte, err error) {
	return k.Seal(plain)
}

// acceptKerberos logs a connection on by a ticket.
func (s *Server) acceptKerberos(w http.ResponseWriter, c *connection, scheme string, token []byte) bool {
	c.forget()
	if s.options.Acceptor == nil {
		s.refuse(w)
		return false
	}
	var bindings []byte
	if s.binding != nil {
		bindings = append([]byte("tls-server-end-point:"), s.binding...)
	}
	context, answer, err := s.options.Acceptor.Accept(token, bindings)
	if err != nil {
		s.accounts.fail()
		s.refuse(w)
		return false
	}
	if answer != nil {
		w.Header().Set("WWW-Authenticate", scheme+" "+base64.StdEncoding.EncodeToString(answer))
	}
	c.loggedOn, c.keys = true, kerberosKeys{context}
	return true
}
