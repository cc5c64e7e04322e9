package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// pins are the keys that a host may show.
type pins struct {
	keys       []ssh.PublicKey
	algorithms []string
}

func parsePins(lines []string) (pins, error) {
	var p pins
	for i, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return pins{}, untrusted(fmt.Errorf("pinned host key %d cannot be read: %w", i+1, err))
		}
		algorithms := algorithmsFor(key.Type())
		if algorithms == nil {
			return pins{}, untrusted(fmt.Errorf("pinned host key %d is of type %s, which is not supported", i+1, key.Type()))
		}
		p.keys = append(p.keys, key)
		for _, algorithm := range algorithms {
			if !slices.Contains(p.algorithms, algorithm) {
				p.algorithms = append(p.algorithms, algorithm)
			}
		}
	}
	if len(p.keys) == 0 {
		p.algorithms = hostKeyAlgorithms
	}
	return p, nil
}

func untrusted(err error) *transport.TrustError {
	return &transport.TrustError{Reason: transport.TrustMismatch, Fingerprint: "not seen", Err: err}
}

// verifier is the host key callback of one handshake: it remembers what it saw.
type verifier struct {
	pins pins
	seen ssh.PublicKey
	// accepted is set before any authentication begins.
	accepted bool
}

func (v *verifier) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	v.seen = key
	for _, pinned := range v.pins.keys {
		if bytes.Equal(pinned.Marshal(), key.Marshal()) {
			v.accepted = true
			return nil
		}
	}
	reason := transport.TrustMismatch
	if len(v.pins.keys) == 0 {
		reason = transport.TrustUnpinned
	}
	return &transport.TrustError{Reason: reason, Seen: keyLine(key), Fingerprint: ssh.FingerprintSHA256(key)}
}

// noPinnedType tells whether a handshake failed because the host has no key of
// a pinned type. What it has instead is then worth another look.
func noPinnedType(err error) bool {
	negotiation := &ssh.AlgorithmNegotiationError{}
	return errors.As(err, &negotiation) && strings.Contains(negotiation.What, "host key")
}

func keyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
