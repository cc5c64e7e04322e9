package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// obstacle is why a host is not contacted: somebody has to correct something first.
type obstacle struct {
	reason  string
	message string // names what is to be corrected
}

func (o *obstacle) Error() string { return o.message }

// countUsers finds the ExternalServices on the host, and the Hosts behind it.
func (p *pass) countUsers(ctx context.Context) error {
	list := &v1alpha1.ExternalServiceList{}
	if err := p.Client.List(ctx, list, client.MatchingFields{Index: p.key.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the ExternalServices on the Host: %w", err)
	}
	for _, service := range list.Items {
		p.users = append(p.users, service.Namespace+"/"+service.Name)
	}
	slices.Sort(p.users)
	behind, err := p.behind(ctx, p.key)
	if err != nil {
		return err
	}
	for _, key := range behind {
		p.jumpers = append(p.jumpers, key.Name)
	}
	slices.Sort(p.jumpers)
	return nil
}

// observe makes the endpoint of the spec, of what it refers to, and of the key
// that was pinned. That something is missing goes to p.obstacle; only what may
// pass by itself is an error.
func (p *pass) observe(ctx context.Context) error {
	if !trustsFirst(p.object.Spec.SSH) {
		p.object.Status.HostKey = "" // What is declared stands in its place.
	}
	err := p.resolve(ctx)
	if errors.As(err, &p.obstacle) {
		return nil
	}
	if err != nil {
		return err
	}
	p.obstacle, p.waiting = p.gate()
	return nil
}

// resolve makes the endpoint, with those of the Hosts that are jumped through.
func (p *pass) resolve(ctx context.Context) error {
	if err := p.findHops(ctx); err != nil {
		return err
	}
	var jump *fleet.Endpoint
	for _, hop := range slices.Backward(p.hops) {
		endpoint, err := p.endpointOf(ctx, hop, jump)
		var o *obstacle
		if errors.As(err, &o) {
			return &obstacle{v1alpha1.ReasonJumpInvalid, fmt.Sprintf("Host %s cannot be jumped through: %s; correct it there", hop.Name, o.message)}
		}
		if err != nil {
			return err
		}
		jump = &endpoint
	}
	var err error
	p.endpoint, err = p.endpointOf(ctx, p.object, jump)
	return err
}

// endpointOf is the endpoint of a Host behind a jump; an obstacle if there can be none.
func (p *pass) endpointOf(ctx context.Context, host *v1alpha1.Host, jump *fleet.Endpoint) (fleet.Endpoint, error) {
	spec := host.Spec
	endpoint := fleet.Endpoint{Spec: spec, HostKeys: hostKeys(host), Jump: jump, RequestedAt: v1alpha1.RequestedAt(host.Annotations)}
	if message := unreadable(spec.SSH); message != "" {
		return endpoint, &obstacle{v1alpha1.ReasonInvalidSpec, message}
	}
	var err error
	endpoint.Credentials, err = p.Credentials.Credentials(ctx, host.Namespace, spec.CredentialsRef.Name)
	if err == nil {
		err = complete(host, endpoint.Credentials)
	}
	if err == nil && spec.WinRM != nil && spec.WinRM.CARef != nil {
		endpoint.CA, err = p.Credentials.CA(ctx, host.Namespace, *spec.WinRM.CARef)
	}
	var absent *credential.NotFoundError
	var invalid *credential.InvalidError
	if errors.As(err, &absent) || errors.As(err, &invalid) {
		return endpoint, &obstacle{v1alpha1.ReasonCredentialsInvalid, err.Error()}
	}
	endpoint.Version = endpoint.Digest()
	return endpoint, err
}

// complete tells whether the Secret holds what the way to log in needs.
func complete(host *v1alpha1.Host, credentials credential.Credentials) error {
	lacks := credential.Lacking(host.Spec, credentials)
	if lacks == "" {
		return nil
	}
	secret := types.NamespacedName{Namespace: host.Namespace, Name: host.Spec.CredentialsRef.Name}
	return &credential.InvalidError{Kind: "Secret", Key: secret, Reason: lacks}
}

// hostKeys that a host may show: those declared, or the one pinned at the first meeting.
func hostKeys(host *v1alpha1.Host) []string {
	switch {
	case host.Spec.SSH == nil:
		return nil
	case trustsFirst(host.Spec.SSH) && host.Status.HostKey != "":
		return []string{host.Status.HostKey}
	}
	return host.Spec.SSH.HostKeys
}

// user to log in as.
func user(spec v1alpha1.HostSpec, credentials credential.Credentials) string {
	if spec.SSH != nil && spec.SSH.User != "" {
		return spec.SSH.User
	}
	return credentials.Username
}

// via tells how the host is reached: "ssh deploy@:22 via bastion", "winrm/NTLM orders@:5986".
func via(spec v1alpha1.HostSpec, credentials credential.Credentials, hops []*v1alpha1.Host) string {
	who := user(spec, credentials) + "@"
	if who == "@" {
		who = "" // A client certificate is mapped to an account by the host.
	}
	var text string
	switch {
	case spec.SSH != nil:
		text = fmt.Sprintf("ssh %s:%d", who, spec.SSH.Port)
	case spec.WinRM != nil:
		text = fmt.Sprintf("winrm/%s %s:%d", spec.WinRM.Authentication, who, spec.WinRM.PortOrDefault())
	}
	for _, hop := range hops {
		text += " via " + hop.Name
	}
	return text
}
