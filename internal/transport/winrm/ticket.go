package winrm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// spareTime is how long a ticket must still be valid to be used.
const spareTime = 2 * time.Minute

// ticketSource keeps the ticket for the listener until it ends.
type ticketSource struct {
	config Config
	user   types.PrincipalName
	kdc    *kdc
	turn   chan struct{} // held by who asks the KDC

	mu   sync.Mutex
	kept *credential
}

func newTicketSource(config Config) *ticketSource {
	realm, name := config.Realm, config.Username
	// user@REALM and REALM\user say the realm once more; Kerberos knows the account by its name alone.
	if _, rest, found := strings.Cut(name, `\`); found {
		name = rest
	}
	name, _, _ = strings.Cut(name, "@")
	return &ticketSource{
		config: config,
		user:   types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, name),
		kdc:    &kdc{realm: realm, dialer: &net.Dialer{Control: config.Control}, limit: config.DialTimeout},
		turn:   make(chan struct{}, 1),
	}
}

// get gives a ticket that is valid, a new one if need be. Several who ask at
// once make one login.
func (s *ticketSource) get(ctx context.Context) (credential, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return credential{}, context.Cause(ctx)
	}
	s.mu.Lock()
	kept := s.kept
	s.mu.Unlock()
	if kept != nil && time.Until(kept.ends) > spareTime {
		return *kept, nil
	}
	fresh, err := s.fetch(ctx)
	if err != nil {
		return credential{}, err
	}
	s.mu.Lock()
	s.kept = &fresh
	s.mu.Unlock()
	return fresh, nil
}

// forget drops a ticket that the listener did not take: its key may have changed.
func (s *ticketSource) forget() {
	s.mu.Lock()
	s.kept = nil
	s.mu.Unlock()
}

// fetch logs in and asks for the ticket. The library reads what a KDC sent, and
// is not trusted to survive all of it.
func (s *ticketSource) fetch(ctx context.Context) (fresh credential, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = errors.New("the KDC's answer is malformed")
		}
	}()
	tgt, err := s.kdc.login(ctx, s.user, s.config.Password)
	if err != nil {
		return credential{}, err
	}
	return s.kdc.ticket(ctx, s.user, tgt)
}

// ticketError says what a failure to get a ticket means.
func (c *Client) ticketError(err error) error {
	var refused messages.KRBError
	if !errors.As(err, &refused) {
		return &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("get a Kerberos ticket: %w", err)}
	}
	method := Kerberos
	switch refused.ErrorCode {
	case errorcode.KDC_ERR_PREAUTH_FAILED, errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, errorcode.KDC_ERR_KEY_EXPIRED, errorcode.KDC_ERR_CLIENT_REVOKED,
		errorcode.KDC_ERR_POLICY, errorcode.KDC_ERR_NAME_EXP, errorcode.KDC_ERR_NULL_KEY:
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN, errorcode.KDC_ERR_SERVICE_EXP:
		method += fmt.Sprintf(", the KDC knows no principal %s: set spec.winrm.kerberos.servicePrincipal", c.config.Realm.ServicePrincipal)
	case errorcode.KDC_ERR_WRONG_REALM:
		method += ", the account is in another realm: set spec.winrm.kerberos.realm"
	case errorcode.KDC_ERR_ETYPE_NOSUPP:
		method += ", the KDC offers no AES key for the account or the listener: allow AES for both"
	case errorcode.KRB_AP_ERR_SKEW:
		return &transport.UnreachableError{Address: c.config.Address,
			Err: errors.New("the clocks of the KDC and of the operator differ by more than five minutes: set them by NTP")}
	default:
		return &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("get a Kerberos ticket: the KDC answered error %d", refused.ErrorCode)}
	}
	return c.finish(&transport.CredentialsError{Method: method, User: c.config.Username, Err: fmt.Errorf("the KDC answered error %d", refused.ErrorCode)})
}
