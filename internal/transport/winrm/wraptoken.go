package winrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/etype"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Wrap tokens with confidentiality (RFC 4121, section 4.2.4). gokrb5 has those
// with integrity only, so the token is made here, of its encryption types.

const (
	wrapHeader = 16

	flagAcceptor       = 1
	flagSealed         = 2
	flagAcceptorSubkey = 4

	usageAcceptorSeal  = 22
	usageInitiatorSeal = 24
)

var errToken = errors.New("the message is not a wrap token of this session")

// kerberosSession seals what an initiator sends and opens what it receives.
type kerberosSession struct {
	key  types.EncryptionKey
	kind etype.EType
	// subkey is flagAcceptorSubkey if the acceptor chose the key.
	subkey        byte
	sent, awaited uint64 // the numbers of the next messages
}

func newKerberosSession(key types.EncryptionKey, subkey byte, sent, awaited uint64) (*kerberosSession, error) {
	kind, err := strong(key.KeyType)
	if err != nil {
		return nil, err
	}
	if len(key.KeyValue) != keySize(key.KeyType) {
		return nil, errors.New("the session key has another length than its type")
	}
	return &kerberosSession{key: key, kind: kind, subkey: subkey, sent: sent, awaited: awaited}, nil
}

// header of a token. The copy that is encrypted has no rotation.
func (s *kerberosSession) header(flags byte, extra, rotation uint16, number uint64) []byte {
	h := []byte{0x05, 0x04, flags, 0xFF}
	h = binary.BigEndian.AppendUint16(h, extra)
	h = binary.BigEndian.AppendUint16(h, rotation)
	return binary.BigEndian.AppendUint64(h, number)
}

// seal makes a token whose ciphertext is rotated so that what is as long as the
// message comes last (as gss_wrap_iov and Windows do): all before is the signature.
func (s *kerberosSession) seal(plain []byte) (signature, sealed []byte, err error) {
	flags := flagSealed | s.subkey
	content := slices.Concat(plain, s.header(flags, 0, 0, s.sent))
	_, encrypted, err := s.kind.EncryptMessage(s.key.KeyValue, content, usageInitiatorSeal)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt a wrap token: %w", err)
	}
	rotation := wrapHeader + s.kind.GetHMACBitLength()/8
	token := slices.Concat(s.header(flags, 0, uint16(rotation), s.sent), rotateRight(encrypted, rotation))
	s.sent++
	split := len(token) - len(plain)
	return token[:split], token[split:], nil
}

func (s *kerberosSession) open(signature, sealed []byte) ([]byte, error) {
	token := slices.Concat(signature, sealed)
	flags := flagAcceptor | flagSealed | s.subkey
	if len(token) < wrapHeader || token[0] != 0x05 || token[1] != 0x04 || token[2] != flags || token[3] != 0xFF {
		return nil, errToken
	}
	extra, rotation := binary.BigEndian.Uint16(token[4:]), int(binary.BigEndian.Uint16(token[6:]))
	if binary.BigEndian.Uint64(token[8:]) != s.awaited {
		return nil, errors.New("the message has another number than the next")
	}
	encrypted := token[wrapHeader:]
	if len(encrypted) < s.kind.GetConfounderByteSize()+int(extra)+wrapHeader+s.kind.GetHMACBitLength()/8 {
		return nil, errToken
	}
	content, err := s.kind.DecryptMessage(s.key.KeyValue, rotateRight(encrypted, -rotation), usageAcceptorSeal)
	if err != nil {
		return nil, fmt.Errorf("decrypt a wrap token: %w", err)
	}
	end := len(content) - wrapHeader
	if end < int(extra) || !bytes.Equal(content[end:], s.header(flags, extra, 0, s.awaited)) {
		return nil, errToken
	}
	s.awaited++
	return content[:end-int(extra)], nil
}

// rotateRight moves the last n bytes to the front; a negative n moves the first to the back.
func rotateRight(data []byte, n int) []byte {
	if len(data) == 0 {
		return nil
	}
	n %= len(data)
	if n < 0 {
		n += len(data)
	}
	return slices.Concat(data[len(data)-n:], data[:len(data)-n])
}

// strongTypes are the encryption types that are used: AES, with SHA-2 (RFC 8009)
// or, as Windows has it, with SHA-1 (RFC 3962). DES and RC4 are not.
var strongTypes = []int32{18, 17, 20, 19}

func strong(id int32) (etype.EType, error) {
	if !slices.Contains(strongTypes, id) {
		return nil, fmt.Errorf("encryption type %d is not accepted: AES is wanted", id)
	}
	return crypto.GetEtype(id)
}

// keySize is the length of a key of a strong type. That of gokrb5 is wrong for type
// 20: it gives the length of the checksum.
func keySize(id int32) int {
	if id == 18 || id == 20 {
		return 32
	}
	return 16
}
