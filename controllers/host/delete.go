package host

import (
	"context"
	"fmt"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// named is how many users a message lists by name.
const named = 5

// delete waits until nothing is on the host any longer, and lets go of it.
// Meanwhile the link stays, because its users need it to clear up.
func (p *pass) delete(ctx context.Context) error {
	if len(p.users)+len(p.jumpers) > 0 {
		if err := p.observe(ctx); err != nil {
			return err
		}
		p.configure()
		p.verdict = decide(p.situation())
		p.verdict.hold = false
		p.verdict.ready = summary{kind: progressing, reason: v1alpha1.ReasonInUse, message: inUse(p.users, p.jumpers)}
		return nil
	}
	p.Fleet.Remove(p.key)
	p.released = true
	return p.patcher.RemoveFinalizer(ctx, p.object, v1alpha1.Finalizer)
}

func inUse(users, jumpers []string) string {
	var waits []string
	if len(users) > 0 {
		waits = append(waits, "no ExternalService is on it any longer; still there: "+enumerate(users))
	}
	if len(jumpers) > 0 {
		waits = append(waits, "no Host jumps through it any longer (spec.ssh.jump); still doing so: "+enumerate(jumpers))
	}
	return "the Host is deleted when " + strings.Join(waits, "; and when ")
}

func enumerate(names []string) string {
	list := strings.Join(names[:min(len(names), named)], ", ")
	if more := len(names) - named; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}
