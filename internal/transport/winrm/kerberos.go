package winrm

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// negotiateKerberos authenticates a connection with a ticket in SPNEGO (RFC
// 4559), and has the listener prove that it could open the ticket. Over HTTPS
// that is bound to the host's certificate; over HTTP it makes the keys that seal
// the messages. A ticket from an earlier connection that is not taken is
// replaced once: the listener's key may have changed. No password is at stake.
func (c *Client) negotiateKerberos(ctx context.Context, l *lane) error {
	for attempt := 0; ; attempt++ {
		held, err := c.tickets.get(ctx)
		if err != nil {
			return c.ticketError(err)
		}
		hello, token, err := newHello(held, c.tickets.user, c.config.Realm.Name, l)
		if err != nil {
			return fmt.Errorf("prepare Kerberos: %w", err)
		}
		reply, err := c.handshake(ctx, l, "Negotiate", token)
		if err != nil {
			return err
		}
		if reply.status != http.StatusUnauthorized {
			return c.welcomed(l, reply, hello)
		}
		if offered, _ := offer(reply.header, "Negotiate"); !offered {
			return c.notOffered(reply.header)
		}
		c.tickets.forget()
		if attempt > 0 || reply.last {
			return c.refuse(errors.New("the listener did not take the ticket"))
		}
	}
}

// welcomed reads the listener's proof.
func (c *Client) welcomed(l *lane, reply *httpReply, h *hello) error {
	if err := c.admitted(reply); err != nil {
		return err
	}
	_, text := offer(reply.header, "Negotiate")
	token, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(token) == 0 {
		if reply.status != http.StatusOK {
			return &transport.UnreachableError{Address: c.config.Address, Err: &HTTPError{Status: reply.status}}
		}
		return c.finish(unprotected("the listener did not prove that it holds the key of %s", c.config.Realm.ServicePrincipal))
	}
	session, err := h.verify(token)
	if err != nil {
		return c.finish(unprotected("the listener did not prove that it holds the key of %s: %w", c.config.Realm.ServicePrincipal, err))
	}
	if l.tls == nil {
		l.session = session
	}
	return nil
}

// hello is what the listener's proof must answer.
type hello struct {
	held          credential
	authenticator types.Authenticator
}

// newHello makes the first token of a context (RFC 4121, section 4.1): an AP-REQ
// that demands mutual authentication.
func newHello(held credential, user types.PrincipalName, realm string, l *lane) (*hello, []byte, error) {
	authenticator, err := types.NewAuthenticator(realm, user)
	if err != nil {
		return nil, nil, err
	}
	if err := authenticator.GenerateSeqNumberAndSubKey(held.key.KeyType, keySize(held.key.KeyType)); err != nil {
		return nil, nil, err
	}
	var application []byte
	if l.tls != nil {
		application = endpointBinding(l.peer())
	}
	authenticator.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: contextChecksum(application)}
	request, err := messages.NewAPReq(held.ticket, held.key, authenticator)
	if err != nil {
		return nil, nil, err
	}
	types.SetFlag(&request.APOptions, flags.APOptionMutualRequired)
	token, err := initToken(request)
	return &hello{held: held, authenticator: authenticator}, token, err
}

// contextChecksum carries the channel bindings and what the context is to offer
// (RFC 4121, section 4.1.1): mutual authentication, detection of replay and of
// disorder, confidentiality, integrity; no delegation.
func contextChecksum(application []byte) []byte {
	sum := append(binary.LittleEndian.AppendUint32(nil, 16), bindingHash(application)...)
	return binary.LittleEndian.AppendUint32(sum, gssapi.ContextFlagMutual|gssapi.ContextFlagReplay|gssapi.ContextFlagSequence|
		gssapi.ContextFlagConf|gssapi.ContextFlagInteg)
}

// initToken wraps an AP-REQ in the framing of GSS-API (RFC 2743, section 3.1)
// and that in SPNEGO, which offers Kerberos only: there is nothing to downgrade to.
func initToken(request messages.APReq) ([]byte, error) {
	content, err := request.Marshal()
	if err != nil {
		return nil, err
	}
	mechanism, err := asn1.Marshal(gssapi.OIDKRB5.OID())
	if err != nil {
		return nil, err
	}
	framed := asn1tools.AddASNAppTag(append(append(mechanism, 0x01, 0x00), content...), 0)
	init := spnego.SPNEGOToken{Init: true, NegTokenInit: spnego.NegTokenInit{
		MechTypes: []asn1.ObjectIdentifier{gssapi.OIDKRB5.OID()}, MechTokenBytes: framed,
	}}
	return init.Marshal()
}

// verify checks the listener's proof and makes the session. The library reads
// what the listener sent, and is not trusted to survive all of it.
func (h *hello) verify(token []byte) (s *kerberosSession, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = errors.New("malformed token")
		}
	}()
	var response spnego.NegTokenResp
	if err := response.Unmarshal(token); err != nil {
		return nil, err
	}
	if spnego.NegState(response.NegState) != spnego.NegStateAcceptCompleted {
		return nil, fmt.Errorf("negotiation state %d", response.NegState)
	}
	var inner spnego.KRB5Token
	if err := inner.Unmarshal(response.ResponseToken); err != nil {
		return nil, err
	}
	if !inner.IsAPRep() {
		return nil, fmt.Errorf("the listener answered with Kerberos error %d", inner.KRBError.ErrorCode)
	}
	plain, err := crypto.DecryptEncPart(inner.APRep.EncPart, h.held.key, keyusage.AP_REP_ENCPART)
	if err != nil {
		return nil, err
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, err
	}
	if part.CTime.Unix() != h.authenticator.CTime.Unix() || part.Cusec != h.authenticator.Cusec {
		return nil, errors.New("the proof is of another request")
	}
	key, subkey := h.authenticator.SubKey, byte(0)
	if len(part.Subkey.KeyValue) > 0 {
		key, subkey = part.Subkey, flagAcceptorSubkey
	}
	return newKerberosSession(key, subkey, uint64(h.authenticator.SeqNumber), uint64(part.SequenceNumber))
}
