package host

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// longestChain is how many Hosts a connection may pass through.
const longestChain = 4

// jumpOf names the Host that a Host is reached through.
func jumpOf(host *v1alpha1.Host) (types.NamespacedName, bool) {
	if host.Spec.SSH == nil || host.Spec.SSH.Jump == nil {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: host.Namespace, Name: host.Spec.SSH.Jump.Name}, true
}

// findHops follows spec.ssh.jump; an obstacle if it leads nowhere.
func (p *pass) findHops(ctx context.Context) error {
	passed := []string{p.object.Name}
	for host := p.object; ; {
		key, jumps := jumpOf(host)
		if !jumps {
			return nil
		}
		field := "spec.ssh.jump"
		if host != p.object {
			field += " of Host " + host.Name
		}
		if slices.Contains(passed, key.Name) {
			return &obstacle{v1alpha1.ReasonJumpInvalid, fmt.Sprintf("%s leads in a circle (%s, %s); let one of these be reached directly",
				field, strings.Join(passed, ", "), key.Name)}
		}
		if len(p.hops) == longestChain {
			return &obstacle{v1alpha1.ReasonJumpInvalid, fmt.Sprintf("%s makes a chain of more than %d Hosts (%s, %s); shorten it",
				field, longestChain, strings.Join(passed, ", "), key.Name)}
		}
		hop := &v1alpha1.Host{}
		if err := p.Client.Get(ctx, key, hop); apierrors.IsNotFound(err) {
			return &obstacle{v1alpha1.ReasonJumpNotFound, fmt.Sprintf("%s names Host %s, which does not exist; create it, name another, or remove the field", field, key)}
		} else if err != nil {
			return fmt.Errorf("read the Host that is jumped through: %w", err)
		}
		if err := jumpable(hop, field); err != nil {
			return err
		}
		p.hops, passed, host = append(p.hops, hop), append(passed, key.Name), hop
	}
}

// jumpable tells whether a connection can pass through a Host. One that is being
// deleted can be: it waits for those behind it, who may need it to clear up.
func jumpable(hop *v1alpha1.Host, field string) error {
	switch {
	case hop.Spec.SSH == nil:
		return &obstacle{v1alpha1.ReasonJumpInvalid, fmt.Sprintf("%s names Host %s, which is reached by WinRM and cannot be jumped through; name one with spec.ssh", field, hop.Name)}
	case hop.Spec.Suspend:
		return &obstacle{v1alpha1.ReasonJumpInvalid, fmt.Sprintf("%s names Host %s, which is suspended; remove its spec.suspend, or name another", field, hop.Name)}
	}
	return nil
}

// leaving names the nearest hop that is being deleted.
func leaving(hops []*v1alpha1.Host) string {
	for _, hop := range hops {
		if !hop.DeletionTimestamp.IsZero() {
			return hop.Name
		}
	}
	return ""
}

// gate holds a connection back until the links of the Hosts that it passes
// through have settled whether they are let in, and stops it where one is not:
// a hundred Hosts behind a bastion with a wrong password would otherwise try
// that password a hundred times, and lock its account.
func (p *pass) gate() (*obstacle, string) {
	var endpoints []*fleet.Endpoint
	for endpoint := p.endpoint.Jump; endpoint != nil; endpoint = endpoint.Jump {
		endpoints = append(endpoints, endpoint)
	}
	for i, hop := range slices.Backward(p.hops) {
		if o, awaited := p.gateOf(hop, endpoints[i]); o != nil || awaited != "" {
			return o, awaited
		}
	}
	return nil, ""
}

func (p *pass) gateOf(hop *v1alpha1.Host, endpoint *fleet.Endpoint) (*obstacle, string) {
	key := types.NamespacedName{Namespace: hop.Namespace, Name: hop.Name}
	link, configured := p.Fleet.Host(key)
	awaited := fmt.Sprintf("waiting for Host %s, which is jumped through, to be connected", hop.Name)
	unpinned := trustsFirst(hop.Spec.SSH) && hop.Status.HostKey == ""
	switch {
	case unpinned:
		return nil, awaited
	case link.Version != endpoint.Version:
		if configured {
			// This pass has read a Secret that the hop's own pass, which comes every ten minutes, has not.
			p.Fleet.Configure(key, *endpoint)
		}
		return nil, awaited
	case link.State == fleet.Idle, link.State == fleet.Connecting:
		return nil, awaited
	case link.State == fleet.CredentialsRefused, link.State == fleet.Untrusted, link.State == fleet.AddressRefused:
		return &obstacle{v1alpha1.ReasonJumpRefused, fmt.Sprintf("Host %s cannot be jumped through: %s; correct it there", hop.Name, link.Message)}, ""
	}
	return nil, ""
}

// JumpIndex of Hosts by the Host that they jump through: "namespace/name".
const JumpIndex = "host.jump"

// IndexJump is the function of JumpIndex.
func IndexJump(object client.Object) []string {
	if key, jumps := jumpOf(object.(*v1alpha1.Host)); jumps {
		return []string{key.String()}
	}
	return nil
}

// behind lists the Hosts that are reached through one, at once or by others.
func (r *Reconciler) behind(ctx context.Context, key types.NamespacedName) ([]types.NamespacedName, error) {
	found := []types.NamespacedName{key}
	for next := 0; next < len(found); next++ {
		list := &v1alpha1.HostList{}
		if err := r.Client.List(ctx, list, client.MatchingFields{JumpIndex: found[next].String()}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list the Hosts that jump through Host %s: %w", found[next], err)
		}
		for _, host := range list.Items {
			other := types.NamespacedName{Namespace: host.Namespace, Name: host.Name}
			if !slices.Contains(found, other) {
				found = append(found, other)
			}
		}
	}
	return found[1:], nil
}
