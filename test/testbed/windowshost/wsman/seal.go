package wsman

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Message sealing over HTTP (MS-WSMV 2.2.9.1, MS-NLMP 3.4) for an NTLM logon with
// extended session security, 128-bit keys and key exchange.

const (
	sealedType     = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`
	sealedBoundary = "--Encrypted Boundary"
	octetStream    = "\tContent-Type: application/octet-stream\r\n"
)

var errSeal = errors.New("a sealed message does not have the form of one")

// sealer seals or opens the messages of one direction.
type sealer struct {
	signKey  []byte
	cipher   *rc4.Cipher
	sequence uint32
}

// newSealer makes the keys for "client-to-server" or "server-to-client".
func newSealer(session []byte, direction string) (*sealer, error) {
	key := func(purpose string) []byte {
		sum := md5.Sum(append(bytes.Clone(session), "session key to "+direction+" "+purpose+" key magic constant\x00"...))
		return sum[:]
	}
	cipher, err := rc4.NewCipher(key("sealing"))
	if err != nil {
		return nil, fmt.Errorf("make a sealing key: %w", err)
	}
	return &sealer{signKey: key("signing"), cipher: cipher}, nil
}

// signature signs a plain message; its checksum is encrypted with the stream that follows the message.
func (s *sealer) signature(plain []byte) []byte {
	sequence := binary.LittleEndian.AppendUint32(nil, s.sequence)
	checksum := hmacMD5(s.signKey, sequence, plain)[:8]
	s.cipher.XORKeyStream(checksum, checksum)
	s.sequence++
	return append(append([]byte{1, 0, 0, 0}, checksum...), sequence...)
}

func (s *sealer) seal(plain []byte) (signature, sealed []byte) {
	sealed = make([]byte, len(plain))
	s.cipher.XORKeyStream(sealed, plain)
	return s.signature(plain), sealed
}

func (s *sealer) open(signature, sealed []byte) ([]byte, error) {
	plain := make([]byte, len(sealed))
	s.cipher.XORKeyStream(plain, sealed)
	if !hmac.Equal(signature, s.signature(plain)) {
		return nil, errors.New("a sealed message has a wrong signature")
	}
	return plain, nil
}

// isSealed tells a sealed request by its Content-Type.
func isSealed(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(contentType), "multipart/encrypted")
}

// ntlmKeys are the sealers of both directions.
type ntlmKeys struct{ requests, answers *sealer }

func newNTLMKeys(session []byte) (*ntlmKeys, error) {
	requests, err := newSealer(session, "client-to-server")
	if err != nil {
		return nil, err
	}
	answers, err := newSealer(session, "server-to-client")
	return &ntlmKeys{requests: requests, answers: answers}, err
}

func (k *ntlmKeys) open(signature, sealed []byte) ([]byte, error) {
	return k.requests.open(signature, sealed)
}

func (k *ntlmKeys) seal(plain []byte) (signature, sealed []byte, err error) {
	signature, sealed = k.answers.seal(plain)
	return signature, sealed, nil
}

// unwrap opens the body of a sealed request.
func unwrap(keys protection, body []byte) ([]byte, error) {
	head, rest, found := bytes.Cut(body, []byte(octetStream))
	if !found {
		return nil, errSeal
	}
	payload, found := bytes.CutSuffix(bytes.TrimRight(rest, "\r\n"), []byte(sealedBoundary+"--"))
	if !found || len(payload) < 4 {
		return nil, errSeal
	}
	size := int(binary.LittleEndian.Uint32(payload))
	if size > len(payload)-4 {
		return nil, errSeal
	}
	plain, err := keys.open(payload[4:4+size], payload[4+size:])
	if err != nil {
		return nil, err
	}
	_, length, found := bytes.Cut(head, []byte("Length="))
	text, _, _ := strings.Cut(string(length), "\r\n")
	if n, err := strconv.Atoi(strings.TrimSpace(text)); !found || err != nil || n != len(plain) {
		return nil, errSeal
	}
	return plain, nil
}

// wrap makes the body of a sealed answer.
func wrap(keys protection, plain []byte) ([]byte, error) {
	signature, sealed, err := keys.seal(plain)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(sealedBoundary + "\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n" +
		"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=" + strconv.Itoa(len(plain)) + "\r\n" +
		sealedBoundary + "\r\n" + octetStream)
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(signature))))
	out.Write(signature)
	out.Write(sealed)
	out.WriteString(sealedBoundary + "--\r\n")
	return out.Bytes(), nil
}
