package wsman

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //nolint:staticcheck // the protocol demands it
)

// The server's side of NTLMv2 (MS-NLMP). github.com/bodgit/ntlmssp has the client's
// side only.

// Flags of NTLM messages (MS-NLMP 2.2.2.5).
const (
	ntlmUnicode         = 0x00000001
	ntlmRequestTarget   = 0x00000004
	ntlmSign            = 0x00000010
	ntlmSeal            = 0x00000020
	ntlmNTLM            = 0x00000200
	ntlmAlwaysSign      = 0x00008000
	ntlmTargetServer    = 0x00020000
	ntlmExtendedSession = 0x00080000
	ntlmTargetInfo      = 0x00800000
	ntlmVersion         = 0x02000000
	ntlm128             = 0x20000000
	ntlmKeyExchange     = 0x40000000
	ntlm56              = 0x80000000
)

// Identifiers of attribute-value pairs (MS-NLMP 2.2.2.1).
const (
	avEOL             = 0
	avComputerName    = 1
	avDomainName      = 2
	avDNSComputerName = 3
	avDNSDomainName   = 4
	avFlags           = 6
	avTimestamp       = 7
	avChannelBindings = 10
)

var (
	ntlmSignature = []byte("NTLMSSP\x00")

	errNTLM       = errors.New("malformed NTLM message")
	errLogon      = errors.New("the user name or password is incorrect")
	errBinding    = errors.New("the channel binding is that of another connection")
	errNoBinding  = errors.New("the client has sent no channel binding")
	errMIC        = errors.New("the message integrity code is wrong")
	errNoNTLMv2   = errors.New("only NTLMv2 is taken")
	ntlmOSVersion = []byte{10, 0, 0x7c, 0x4f, 0, 0, 0, 15} // 10.0.20348, revision 15
)

// Binding is what is demanded of logons over TLS (CbtHardeningLevel of the service).
type Binding int

const (
	// RelaxedBinding refuses a wrong channel binding, and takes a missing one, as
	// Windows does unless told otherwise.
	RelaxedBinding Binding = iota
	// StrictBinding refuses a missing one, too.
	StrictBinding
)

// ntlmContext is a logon in the making, or made, on one connection.
type ntlmContext struct {
	machine   string
	negotiate []byte
	challenge []byte // the whole message
	nonce     []byte
	flags     uint32
	key       []byte // the exported session key once the logon is made
}

// begin takes the client's NEGOTIATE message and returns the CHALLENGE message.
func (c *ntlmContext) begin(negotiate []byte, now time.Time) ([]byte, error) {
	if len(negotiate) < 16 || !bytes.HasPrefix(negotiate, ntlmSignature) || negotiate[8] != 1 {
		return nil, errNTLM
	}
	asked := binary.LittleEndian.Uint32(negotiate[12:])
	c.flags = asked&(ntlmSign|ntlmSeal|ntlmAlwaysSign|ntlm128|ntlm56|ntlmKeyExchange) |
		ntlmUnicode | ntlmRequestTarget | ntlmNTLM | ntlmTargetServer | ntlmExtendedSession | ntlmTargetInfo | ntlmVersion
	c.nonce = make([]byte, 8)
	_, _ = rand.Read(c.nonce) // crypto/rand.Read never fails
	name, info := utf16Bytes(c.machine), c.targetInfo(now)

	message := append([]byte{}, ntlmSignature...)
	message = binary.LittleEndian.AppendUint32(message, 2)
	message = appendField(message, len(name), 56)
	message = binary.LittleEndian.AppendUint32(message, c.flags)
	message = append(message, c.nonce...)
	message = append(message, make([]byte, 8)...)
	message = appendField(message, len(info), 56+len(name))
	message = append(message, ntlmOSVersion...)
	message = append(append(message, name...), info...)
	c.negotiate, c.challenge = bytes.Clone(negotiate), message
	return message, nil
}

// targetInfo names the server, and by its time stamp asks for a message integrity code.
func (c *ntlmContext) targetInfo(now time.Time) []byte {
	var info []byte
	for _, id := range []uint16{avDomainName, avComputerName, avDNSDomainName, avDNSComputerName} {
		name := c.machine
		if id >= avDNSComputerName {
			name = strings.ToLower(name)
		}
		value := utf16Bytes(name)
		info = binary.LittleEndian.AppendUint16(info, id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(value)))
		info = append(info, value...)
	}
	info = binary.LittleEndian.AppendUint16(info, avTimestamp)
	info = binary.LittleEndian.AppendUint16(info, 8)
	info = binary.LittleEndian.AppendUint64(info, fileTime(now))
	return append(info, 0, 0, 0, 0)
}

// finish takes the client's AUTHENTICATE message. Binding is the hash of the TLS
// channel (RFC 5929), nil without TLS; account finds a password by user name.
func (c *ntlmContext) finish(message, binding []byte, level Binding, account func(user string) (string, bool)) error {
	if len(message) < 64 || !bytes.HasPrefix(message, ntlmSignature) || message[8] != 3 || c.nonce == nil {
		return errNTLM
	}
	response, domain, user, encrypted := field(message, 20), field(message, 28), field(message, 36), field(message, 52)
	flags := binary.LittleEndian.Uint32(message[60:])
	if response == nil || domain == nil || user == nil {
		return errNTLM
	}
	if len(response) < 16+28+4 {
		return errNoNTLMv2
	}
	password, ok := account(fromUTF16(user))
	if !ok {
		return errLogon
	}
	key := ntowfV2(password, fromUTF16(user), fromUTF16(domain))
	proof, blob := response[:16], response[16:]
	if !hmac.Equal(proof, hmacMD5(key, c.nonce, blob)) {
		return errLogon
	}
	session := hmacMD5(key, proof)
	if flags&ntlmKeyExchange != 0 && len(encrypted) == 16 {
		session = rc4Once(session, encrypted)
	}
	if err := c.verify(message, blob, session, binding, level); err != nil {
		return err
	}
	c.flags, c.key = flags, session
	return nil
}

// verify checks the message integrity code and the channel binding, where the client sent them.
func (c *ntlmContext) verify(message, blob, session, binding []byte, level Binding) error {
	pairs := avPairs(blob[28:])
	if f := pairs[avFlags]; len(f) == 4 && f[0]&2 != 0 {
		if len(message) < 88 {
			return errNTLM
		}
		plain := bytes.Clone(message)
		clear(plain[72:88])
		if !hmac.Equal(message[72:88], hmacMD5(session, c.negotiate, c.challenge, plain)) {
			return errMIC
		}
	}
	sent := pairs[avChannelBindings]
	if binding == nil {
		return nil
	}
	if len(sent) != 16 || bytes.Equal(sent, make([]byte, 16)) {
		if level == StrictBinding {
			return errNoBinding
		}
		return nil
	}
	if !hmac.Equal(sent, bindingHash(binding)) {
		return errBinding
	}
	return nil
}

// bindingHash is the MD5 of the GSS-API channel bindings (RFC 2744) that have only
// application data: "tls-server-end-point:" and the hash of the certificate.
func bindingHash(certificate []byte) []byte {
	data := append([]byte("tls-server-end-point:"), certificate...)
	structure := make([]byte, 16, 20+len(data))
	structure = binary.LittleEndian.AppendUint32(structure, uint32(len(data)))
	sum := md5.Sum(append(structure, data...))
	return sum[:]
}

// avPairs reads attribute-value pairs up to their end.
func avPairs(data []byte) map[uint16][]byte {
	pairs := map[uint16][]byte{}
	for len(data) >= 4 {
		id, size := binary.LittleEndian.Uint16(data), int(binary.LittleEndian.Uint16(data[2:]))
		if id == avEOL || len(data) < 4+size {
			break
		}
		pairs[id] = data[4 : 4+size]
		data = data[4+size:]
	}
	return pairs
}

// field reads what the length and offset at a position point to; nil if that is outside.
func field(message []byte, at int) []byte {
	size := int(binary.LittleEndian.Uint16(message[at:]))
	offset := int(binary.LittleEndian.Uint32(message[at+4:]))
	if offset+size > len(message) {
		return nil
	}
	return message[offset : offset+size : offset+size]
}

func appendField(message []byte, size, offset int) []byte {
	message = binary.LittleEndian.AppendUint16(message, uint16(size))
	message = binary.LittleEndian.AppendUint16(message, uint16(size))
	return binary.LittleEndian.AppendUint32(message, uint32(offset))
}

// ntowfV2 is the key that a password makes (MS-NLMP 3.3.2).
func ntowfV2(password, user, domain string) []byte {
	hash := md4.New()
	_, _ = hash.Write(utf16Bytes(password)) // a hash takes everything
	return hmacMD5(hash.Sum(nil), utf16Bytes(strings.ToUpper(user)+domain))
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(md5.New, key)
	for _, part := range parts {
		_, _ = mac.Write(part) // a hash takes everything
	}
	return mac.Sum(nil)
}

func rc4Once(key, data []byte) []byte {
	cipher, err := rc4.NewCipher(key)
	if err != nil {
		return make([]byte, len(data)) // only for keys of impossible length
	}
	out := make([]byte, len(data))
	cipher.XORKeyStream(out, data)
	return out
}

func utf16Bytes(text string) []byte {
	out := []byte{}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return out
}

func fromUTF16(data []byte) string {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	return string(utf16.Decode(units))
}

// fileTime counts 100 ns since 1601.
func fileTime(t time.Time) uint64 { return uint64(t.UnixNano()/100) + 116444736000000000 }
