package winrm

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/bodgit/ntlmssp"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// negotiateNTLM carries out the three messages of NTLMv2 (MS-NLMP) as HTTP does
// (RFC 4559): the first says who asks for what, the second is the host's
// challenge, the third the proof. Over HTTPS the proof is bound to the host's
// certificate; over HTTP it makes the keys that seal the messages. The requests
// have no body, so nothing is carried out by them.
func (c *Client) negotiateNTLM(ctx context.Context, l *lane) error {
	client, err := c.newNTLM()
	if err != nil {
		return fmt.Errorf("prepare NTLM: %w", err)
	}
	first, err := client.Authenticate(nil, nil)
	if err != nil {
		return fmt.Errorf("prepare NTLM: %w", err)
	}
	scheme, challenge, err := c.challenge(ctx, l, first)
	if err != nil {
		return err
	}
	third, err := c.answer(client, challenge, l)
	if err != nil {
		return err
	}
	reply, err := c.handshake(ctx, l, scheme, third)
	if err != nil {
		return err
	}
	if err := c.admitted(reply); err != nil {
		return err
	}
	if l.tls == nil {
		l.session = &ntlmSession{client.SecuritySession()}
	}
	return nil
}

// answer computes the proof, for a challenge that promises enough.
func (c *Client) answer(client *ntlmssp.Client, challenge []byte, l *lane) ([]byte, error) {
	var bound *ntlmssp.ChannelBindings
	if l.tls != nil {
		bound = &ntlmssp.ChannelBindings{ApplicationData: endpointBinding(l.peer())}
	} else if err := checkChallenge(challenge); err != nil {
		return nil, c.finish(err)
	}
	third, err := proof(client, challenge, bound)
	if err != nil {
		return nil, &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("NTLM challenge: %w", err)}
	}
	return third, nil
}

// challenge sends the first message. WinRM offers Negotiate; a listener behind
// something else may offer NTLM only.
func (c *Client) challenge(ctx context.Context, l *lane, first []byte) (scheme string, challenge []byte, err error) {
	scheme = "Negotiate"
	reply, err := c.handshake(ctx, l, scheme, first)
	if err != nil {
		return "", nil, err
	}
	if reply.status != http.StatusUnauthorized {
		return "", nil, &transport.UnreachableError{Address: c.config.Address, Err: &HTTPError{Status: reply.status}}
	}
	if offered, _ := offer(reply.header, scheme); !offered {
		scheme = "NTLM"
		if offered, _ := offer(reply.header, scheme); !offered {
			return "", nil, c.notOffered(reply.header)
		}
		if reply, err = c.handshake(ctx, l, scheme, first); err != nil {
			return "", nil, err
		}
	}
	_, token := offer(reply.header, scheme)
	challenge, err = base64.StdEncoding.DecodeString(token)
	if err != nil || len(challenge) == 0 {
		return "", nil, &transport.UnreachableError{Address: c.config.Address, Err: errors.New("the listener sent no NTLM challenge")}
	}
	return scheme, challenge, nil
}

func (c *Client) newNTLM() (*ntlmssp.Client, error) {
	domain, user := splitUser(c.config.Username)
	return ntlmssp.NewClient(
		// Level 3 sends NTLMv2 and LMv2 only, whatever a challenge asks for.
		ntlmssp.SetCompatibilityLevel(3),
		ntlmssp.SetUserInfo(user, c.config.Password),
		ntlmssp.SetDomain(domain),
		ntlmssp.SetVersion(ntlmssp.DefaultVersion()),
	)
}

// splitUser takes DOMAIN\user apart. A dot means the host itself, as no domain
// does; user@domain stays whole.
func splitUser(name string) (domain, user string) {
	domain, user, found := strings.Cut(name, `\`)
	if !found {
		return "", name
	}
	if domain == "." {
		domain = ""
	}
	return domain, user
}

// proof computes the third message. The library reads what the host sent, and
// is not trusted to survive all of it.
func proof(client *ntlmssp.Client, challenge []byte, bindings *ntlmssp.ChannelBindings) (third []byte, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = errors.New("malformed")
		}
	}()
	if len(challenge) < 24 || binary.LittleEndian.Uint32(challenge[20:])&anonymousFlag != 0 {
		return nil, errors.New("malformed")
	}
	return client.Authenticate(challenge, bindings)
}

// Flags of a challenge (MS-NLMP, section 2.2.2.5) without which messages would
// be sealed by less than a fresh 128-bit key of their own, or not at all.
const sealingFlags = 0x00000001 | // Unicode
	0x00000010 | // sign
	0x00000020 | // seal
	0x00080000 | // extended session security
	0x00800000 | // target information, which NTLMv2 is made with
	0x20000000 | // 128 bits
	0x40000000 //  key exchange

// anonymousFlag in a challenge makes the library prove nothing, with a key that
// anybody knows. Only clients may set it.
const anonymousFlag = 0x00000800

const avTimestamp = 7

// checkChallenge refuses a challenge that would weaken the sealing. The time
// stamp is what makes the client prove the integrity of all three messages
// (MS-NLMP, section 3.1.5.1.2), which Windows sends since 2008 R2: without it
// somebody between could have changed the flags.
func checkChallenge(challenge []byte) error {
	if len(challenge) < 48 {
		return unprotected("the NTLM challenge is malformed")
	}
	flags := binary.LittleEndian.Uint32(challenge[20:])
	if flags&sealingFlags != sealingFlags || flags&anonymousFlag != 0 {
		return unprotected("the host offers no 128-bit sealing of messages (NTLM flags %#08x)", flags)
	}
	length, offset := int(binary.LittleEndian.Uint16(challenge[40:])), int(binary.LittleEndian.Uint32(challenge[44:]))
	if offset > len(challenge) || length > len(challenge)-offset {
		return unprotected("the NTLM challenge is malformed")
	}
	for info := challenge[offset : offset+length]; len(info) >= 4; {
		id, size := binary.LittleEndian.Uint16(info), int(binary.LittleEndian.Uint16(info[2:]))
		if id == avTimestamp && size == 8 {
			return nil
		}
		if id == 0 || size > len(info)-4 {
			break
		}
		info = info[4+size:]
	}
	return unprotected("the NTLM challenge has no time stamp, so its integrity would not be proved")
}

// ntlmSession seals messages with the keys of a logon (MS-NLMP, section 3.4).
type ntlmSession struct{ keys *ntlmssp.SecuritySession }

func (s *ntlmSession) seal(plain []byte) (signature, sealed []byte, err error) {
	sealed, signature, err = s.keys.Wrap(plain)
	return signature, sealed, err
}

func (s *ntlmSession) open(signature, sealed []byte) ([]byte, error) {
	if len(signature) != 16 {
		return nil, errors.New("the signature is not one of NTLM")
	}
	return s.keys.Unwrap(sealed, signature)
}
