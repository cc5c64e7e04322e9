package winrm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// session seals and opens the messages of one connection, in the order in which
// they are sent: each has a number.
type session interface {
	seal(plain []byte) (signature, sealed []byte, err error)
	open(signature, sealed []byte) ([]byte, error)
}

// The form of a sealed message (MS-WSMV, section 2.2.9.1). It resembles MIME, but
// the headers of its parts begin with a tab, no empty line ends them, and the
// content is bounded by nothing but the last boundary.
const (
	soapType       = "application/soap+xml;charset=UTF-8"
	sealedProtocol = "application/HTTP-SPNEGO-session-encrypted"
	sealedBoundary = "Encrypted Boundary"
	sealedType     = `multipart/encrypted;protocol="` + sealedProtocol + `";boundary="` + sealedBoundary + `"`
	boundaryLine   = "--" + sealedBoundary + "\r\n"
	lastBoundary   = "--" + sealedBoundary + "--"
	octetStream    = "application/octet-stream"
	// maxSignature bounds what precedes the sealed bytes; NTLM's has 16, those of Kerberos up to 72.
	maxSignature = 256
)

var errFraming = errors.New("the answer does not have the form of a sealed message")

// ask sends an envelope and reads the answer, both sealed unless there is TLS.
func (l *lane) ask(ctx context.Context, url string, envelope []byte, limit time.Duration) (*httpReply, error) {
	out := outgoing{authorization: l.authorization, contentType: soapType, body: envelope}
	if l.tls != nil {
		return l.exchange(ctx, url, out, limit)
	}
	if l.session == nil {
		return nil, unprotected("the connection has neither TLS nor keys")
	}
	body, err := wrap(l.session, envelope)
	if err != nil {
		return nil, fmt.Errorf("seal a message: %w", err)
	}
	reply, err := l.exchange(ctx, url, outgoing{contentType: sealedType, body: body}, limit)
	if err != nil {
		return nil, err
	}
	return unseal(l.session, reply, len(envelope))
}

// unseal gives the envelope of an answer to a sealed message. What is not sealed
// is not believed: a refusal without content may come from the HTTP layer below
// (or from anybody between), so it leaves open whether the request was carried
// out; content in the clear is an attack or a listener that must not be spoken to.
func unseal(s session, reply *httpReply, size int) (*httpReply, error) {
	kind, parameters, _ := mime.ParseMediaType(reply.header.Get("Content-Type"))
	if kind != "multipart/encrypted" {
		switch {
		case reply.status == http.StatusRequestEntityTooLarge:
			return nil, &EnvelopeTooLargeError{Size: size}
		case reply.status < 300 || strings.Contains(kind, "xml"):
			return nil, unprotected("the host answered a sealed message in the clear (HTTP %d)", reply.status)
		}
		return nil, &HTTPError{Status: reply.status}
	}
	if !strings.EqualFold(parameters["protocol"], sealedProtocol) || parameters["boundary"] != sealedBoundary {
		return nil, unprotected("the host answered with another encryption (%.80q)", parameters["protocol"])
	}
	plain, err := unwrap(s, reply.body)
	if err != nil {
		return nil, &ProtectionError{Err: err}
	}
	opened := *reply
	opened.body = plain
	return &opened, nil
}

// wrap makes the body of a sealed message.
func wrap(s session, plain []byte) ([]byte, error) {
	signature, sealed, err := s.seal(plain)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(boundaryLine + "\tContent-Type: " + sealedProtocol + "\r\n" +
		"\tOriginalContent: type=" + soapType + ";Length=" + strconv.Itoa(len(plain)) + "\r\n" +
		boundaryLine + "\tContent-Type: " + octetStream + "\r\n")
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(signature))))
	out.Write(signature)
	out.Write(sealed)
	out.WriteString(lastBoundary + "\r\n")
	return out.Bytes(), nil
}

// unwrap opens the body of a sealed message.
func unwrap(s session, body []byte) ([]byte, error) {
	length, signature, sealed, err := parseSealed(body)
	if err != nil {
		return nil, err
	}
	plain, err := s.open(signature, sealed)
	if err != nil {
		return nil, fmt.Errorf("the answer cannot be opened: %w", err)
	}
	if len(plain) != length {
		return nil, errFraming
	}
	return plain, nil
}

// parseSealed takes a sealed message apart. Length is that of the plain one.
func parseSealed(body []byte) (length int, signature, sealed []byte, err error) {
	rest, found := bytes.CutPrefix(bytes.TrimLeft(body, "\r\n"), []byte(boundaryLine))
	if !found {
		return 0, nil, nil, errFraming
	}
	head, rest, found := bytes.Cut(rest, []byte(boundaryLine))
	if !found || len(head) > 1024 {
		return 0, nil, nil, errFraming
	}
	if length, err = originalLength(string(head)); err != nil {
		return 0, nil, nil, err
	}
	kind, rest, found := bytes.Cut(rest, []byte("\r\n"))
	if !found || !strings.EqualFold(strings.ReplaceAll(strings.TrimSpace(string(kind)), " ", ""), "Content-Type:"+octetStream) {
		return 0, nil, nil, errFraming
	}
	content, found := bytes.CutSuffix(bytes.TrimRight(rest, "\r\n"), []byte(lastBoundary))
	if !found || len(content) < 4 {
		return 0, nil, nil, errFraming
	}
	size := binary.LittleEndian.Uint32(content)
	if size > maxSignature || int(size) > len(content)-4 {
		return 0, nil, nil, errFraming
	}
	return length, content[4 : 4+size], content[4+size:], nil
}

// originalLength reads the header OriginalContent: "type=...;charset=...;Length=N".
func originalLength(head string) (int, error) {
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if !strings.EqualFold(name, "OriginalContent") {
			continue
		}
		for part := range strings.SplitSeq(value, ";") {
			name, number, _ := strings.Cut(strings.TrimSpace(part), "=")
			if strings.EqualFold(name, "Length") {
				length, err := strconv.ParseUint(number, 10, 31)
				if err != nil {
					return 0, errFraming
				}
				return int(length), nil
			}
		}
	}
	return 0, errFraming
}
