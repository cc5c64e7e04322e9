package host

import (
	"context"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// longestKey is what status.hostKey takes.
const longestKey = 2048

// shouldPin tells whether this is the first meeting with a host that is to be
// trusted at the first meeting.
func (p *pass) shouldPin() bool {
	return p.obstacle == nil && trustsFirst(p.object.Spec.SSH) && len(p.endpoint.HostKeys) == 0 &&
		p.link.State == fleet.Untrusted && p.link.Unpinned && p.link.Version == p.endpoint.Version &&
		p.link.SeenKey != "" && len(p.link.SeenKey) <= longestKey
}

// trustsFirst tells whether the key that is shown first is the one to trust:
// where a key or an authority is declared, it is not.
func trustsFirst(ssh *v1alpha1.SSHTransport) bool {
	return ssh != nil && ssh.TrustOnFirstUse && len(ssh.HostKeys) == 0 && len(ssh.HostKeyAuthorities) == 0
}

// pin writes the key down, and only then lets the fleet log in to who showed
// it: if the operator died between the two, the next one would expect this key.
func (p *pass) pin(ctx context.Context) error {
	p.object.Status.HostKey = p.link.SeenKey
	p.object.Status.HostKeyFingerprint = bounded(p.link.Fingerprint, 256)
	if _, err := p.patcher.Patch(ctx, p.object); err != nil {
		return err
	}
	p.endpoint.HostKeys = []string{p.object.Status.HostKey}
	p.endpoint.Version = p.endpoint.Digest()
	p.configure()
	return nil
}
