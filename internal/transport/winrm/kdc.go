package winrm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// The exchanges with a KDC (RFC 4120, section 3). The messages and their
// encryption are gokrb5's; its client is not used, because it cannot be given a
// dialer (so no address could be refused), nor be cancelled, and reads answers of
// any size. Only TCP is spoken.

const (
	kdcPort = "88"
	// maxTicket bounds an answer of a KDC; tickets with many groups have some 12 kB.
	maxTicket = 128 << 10
	// maxIterations bounds the work that a KDC can ask for to make a key of a
	// password: RFC 3962 has 4,096, RFC 8009 32,768.
	maxIterations = 1 << 20
	clockSkew     = 5 * time.Minute
)

// kdc asks the KDCs of one realm.
type kdc struct {
	realm  Realm
	dialer *net.Dialer
	limit  time.Duration
}

// kdcError is a KDC that cannot be reached, or answers what cannot be understood.
type kdcError struct {
	address string
	err     error
}

func (e *kdcError) Error() string { return fmt.Sprintf("KDC %s: %v", e.address, e.err) }
func (e *kdcError) Unwrap() error { return e.err }

// credential is a ticket with the key that belongs to it.
type credential struct {
	ticket messages.Ticket
	key    types.EncryptionKey
	ends   time.Time
}

// settings are what gokrb5 makes requests with; nothing of the machine's own
// krb5.conf is read.
func settings() *config.Config {
	c := config.New()
	c.LibDefaults.DefaultTktEnctypeIDs = strongTypes
	c.LibDefaults.DefaultTGSEnctypeIDs = strongTypes
	c.LibDefaults.TicketLifetime = 10 * time.Hour
	return c
}

// login gets a ticket-granting ticket. The password is proved once: the first
// request is without proof, and is answered with what the key is made with.
func (k *kdc) login(ctx context.Context, user types.PrincipalName, password string) (credential, error) {
	request, err := messages.NewASReqForTGT(k.realm.Name, settings(), user)
	if err != nil {
		return credential{}, err
	}
	answer, err := k.ask(ctx, &request)
	var refused messages.KRBError
	var key types.EncryptionKey
	if errors.As(err, &refused) && refused.ErrorCode == errorcode.KDC_ERR_PREAUTH_REQUIRED {
		var hints types.PADataSequence
		if err := hints.Unmarshal(refused.EData); err != nil {
			return credential{}, fmt.Errorf("the KDC does not say how to prove the password: %w", err)
		}
		if key, err = keyOf(hints, user, k.realm.Name, password); err != nil {
			return credential{}, err
		}
		if err := prove(&request, key); err != nil {
			return credential{}, err
		}
		answer, err = k.ask(ctx, &request)
	}
	if err != nil {
		return credential{}, err
	}
	var reply messages.ASRep
	if err := reply.Unmarshal(answer); err != nil {
		return credential{}, err
	}
	if key.KeyType == 0 {
		if key, err = keyOf(reply.PAData, user, k.realm.Name, password); err != nil {
			return credential{}, err
		}
	}
	return openTGT(request, reply, key)
}

// openTGT verifies an answer to a login (RFC 4120, section 3.1.5).
func openTGT(request messages.ASReq, reply messages.ASRep, key types.EncryptionKey) (credential, error) {
	if reply.EncPart.EType != key.KeyType {
		return credential{}, fmt.Errorf("the KDC answered with encryption type %d instead of %d", reply.EncPart.EType, key.KeyType)
	}
	plain, err := crypto.DecryptEncPart(reply.EncPart, key, keyusage.AS_REP_ENCPART)
	if err != nil {
		return credential{}, fmt.Errorf("open the ticket: %w", err)
	}
	var part messages.EncKDCRepPart
	if err := part.Unmarshal(plain); err != nil {
		return credential{}, err
	}
	body := request.ReqBody
	if part.Nonce != body.Nonce || !part.SName.Equal(body.SName) || part.SRealm != body.Realm || !reply.CName.Equal(body.CName) || reply.CRealm != body.Realm {
		return credential{}, errors.New("the KDC answered another request")
	}
	if skew := time.Since(part.AuthTime); skew.Abs() > clockSkew {
		return credential{}, fmt.Errorf("the clocks of the KDC and of the operator differ by %s", skew.Round(time.Second))
	}
	if _, err := strong(part.Key.KeyType); err != nil {
		return credential{}, err
	}
	return credential{ticket: reply.Ticket, key: part.Key, ends: part.EndTime}, nil
}

// ticket gets a ticket for a service with a ticket-granting ticket. Referrals to
// other realms are not followed: their KDCs are not known.
func (k *kdc) ticket(ctx context.Context, user types.PrincipalName, tgt credential) (credential, error) {
	service := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, k.realm.ServicePrincipal)
	request, err := messages.NewTGSReq(user, k.realm.Name, settings(), tgt.ticket, tgt.key, service, false)
	if err != nil {
		return credential{}, err
	}
	answer, err := k.ask(ctx, &request)
	if err != nil {
		return credential{}, err
	}
	var reply messages.TGSRep
	if err := reply.Unmarshal(answer); err != nil {
		return credential{}, err
	}
	if err := reply.DecryptEncPart(tgt.key); err != nil {
		return credential{}, err
	}
	if ok, err := reply.Verify(settings(), request); err != nil || !ok {
		return credential{}, errors.Join(errors.New("the KDC answered another request"), err)
	}
	part := reply.DecryptedEncPart
	if !slices.EqualFunc(part.SName.NameString, service.NameString, strings.EqualFold) {
		return credential{}, fmt.Errorf("the KDC gave a ticket for %q instead of %s: the service may be in another realm",
			part.SName.PrincipalNameString(), k.realm.ServicePrincipal)
	}
	if _, err := strong(part.Key.KeyType); err != nil {
		return credential{}, err
	}
	return credential{ticket: reply.Ticket, key: part.Key, ends: part.EndTime}, nil
}

// keyOf makes the key of a password, of the first strong type that the KDC offers.
func keyOf(hints types.PADataSequence, user types.PrincipalName, realm, password string) (types.EncryptionKey, error) {
	for _, hint := range hints {
		if hint.PADataType != patype.PA_ETYPE_INFO2 {
			continue
		}
		offers, err := hint.GetETypeInfo2()
		if err != nil {
			return types.EncryptionKey{}, err
		}
		for _, offer := range offers {
			if slices.Contains(strongTypes, offer.EType) {
				return stretch(offer, user.GetSalt(realm), password)
			}
		}
	}
	return types.EncryptionKey{}, errors.New("the KDC offers no AES key for the account: reset its password, or allow AES for it")
}

func stretch(offer types.ETypeInfo2Entry, salt, password string) (types.EncryptionKey, error) {
	kind, err := strong(offer.EType)
	if err != nil {
		return types.EncryptionKey{}, err
	}
	if offer.Salt != "" {
		salt = offer.Salt
	}
	iterations := kind.GetDefaultStringToKeyParams()
	if len(offer.S2KParams) == 4 {
		if n := binary.BigEndian.Uint32(offer.S2KParams); n == 0 || n > maxIterations {
			return types.EncryptionKey{}, fmt.Errorf("the KDC wants %d iterations", n)
		}
		iterations = hex.EncodeToString(offer.S2KParams)
	}
	value, err := kind.StringToKey(password, salt, iterations)
	return types.EncryptionKey{KeyType: offer.EType, KeyValue: value}, err
}

// prove adds the time, encrypted with the key, to a login.
func prove(request *messages.ASReq, key types.EncryptionKey) error {
	stamp, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		return err
	}
	encrypted, err := crypto.GetEncryptedData(stamp, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return err
	}
	value, err := encrypted.Marshal()
	if err != nil {
		return err
	}
	request.PAData = append(request.PAData, types.PAData{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: value})
	return nil
}

// ask sends a request to the first KDC that answers. An answer that is an error
// of the KDC counts as one: another KDC would say the same, and a wrong password
// would be counted twice.
func (k *kdc) ask(ctx context.Context, request interface{ Marshal() ([]byte, error) }) ([]byte, error) {
	data, err := request.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write a request to the KDC: %w", err)
	}
	var all error
	for _, address := range k.realm.KDCs {
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(strings.Trim(address, "[]"), kdcPort)
		}
		answer, err := k.exchange(ctx, address, data)
		if err == nil {
			var refused messages.KRBError
			if refused.Unmarshal(answer) == nil {
				return nil, refused
			}
			return answer, nil
		}
		all = errors.Join(all, &kdcError{address: address, err: err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, all
}

// exchange sends one message and reads one (RFC 4120, section 7.2.2).
func (k *kdc) exchange(ctx context.Context, address string, data []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, k.limit)
	defer cancel()
	conn, err := k.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()                                          //nolint:errcheck // it has been read, or is given up
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends a read or write that waits
	defer stop()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	length := binary.BigEndian.Uint32(size[:])
	if length > maxTicket {
		return nil, fmt.Errorf("an answer of %d bytes", length)
	}
	answer := make([]byte, length)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return answer, nil
}
