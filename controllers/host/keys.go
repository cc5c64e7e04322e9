package host

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// keyTypes that a host or an authority may have.
var keyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA}

// unreadable names the first entry that is no public key; empty: all are. It is
// said here, because to the link a key that nobody can show is an identity that changed.
func unreadable(transport *v1alpha1.SSHTransport) string {
	if transport == nil {
		return ""
	}
	for _, list := range []struct {
		field   string
		entries []string
	}{{"hostKeys", transport.HostKeys}, {"hostKeyAuthorities", transport.HostKeyAuthorities}} {
		for i, entry := range list.entries {
			if why := flaw(entry); why != "" {
				return fmt.Sprintf("spec.ssh.%s[%d] (%s) %s", list.field, i, excerpt(entry), why)
			}
		}
	}
	return ""
}

func flaw(entry string) string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(entry))
	switch {
	case err != nil:
		return "is not a public key; copy all of the line that ssh-keyscan or the .pub file shows, without the name of the host"
	case strings.HasSuffix(key.Type(), "-cert-v01@openssh.com"):
		return "is a certificate; write the key of the authority that signed it into spec.ssh.hostKeyAuthorities"
	case !slices.Contains(keyTypes, key.Type()):
		return "is of a type that is not supported; use one of " + strings.Join(keyTypes, ", ")
	}
	return ""
}

func excerpt(entry string) string {
	if len(entry) > 48 {
		return entry[:48] + "..."
	}
	return entry
}

// declared tells whether a key is among declared ones, whatever comments they have.
func declared(entries []string, seen string) bool {
	return slices.ContainsFunc(entries, func(entry string) bool {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(entry))
		return err == nil && strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) == seen
	})
}
