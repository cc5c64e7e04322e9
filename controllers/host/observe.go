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

// countUsers finds the ExternalServices on the host.
func (p *pass) countUsers(ctx context.Context) error {
	list := &v1alpha1.ExternalServiceList{}
	if err := p.Client.List(ctx, list, client.MatchingFields{Index: p.key.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the ExternalServices on the Host: %w", err)
	}
	for _, service := range list.Items {
		p.users = append(p.users, service.Namespace+"/"+service.Name)
	}
	slices.Sort(p.users)
	return nil
}

// observe makes the endpoint of the spec, of what it refers to, and of the key
// that was pinned. That something is missing goes to p.missing; only what may
// pass by itself is an error.
func (p *pass) observe(ctx context.Context) error {
	spec := p.object.Spec
	if spec.SSH != nil && len(spec.SSH.HostKeys) > 0 {
		p.object.Status.HostKey = "" // The declared keys stand in its place.
	}
	p.endpoint = fleet.Endpoint{Spec: spec, HostKeys: p.hostKeys(), RequestedAt: v1alpha1.RequestedAt(p.object.Annotations)}
	var err error
	p.endpoint.Credentials, err = p.Credentials.Credentials(ctx, p.object.Namespace, spec.CredentialsRef.Name)
	if err == nil && user(spec, p.endpoint.Credentials) == "" {
		err = p.noUser()
	}
	if err == nil && spec.WinRM != nil && spec.WinRM.CARef != nil {
		p.endpoint.CA, err = p.Credentials.CA(ctx, p.object.Namespace, *spec.WinRM.CARef)
	}
	var absent *credential.NotFoundError
	var invalid *credential.InvalidError
	if errors.As(err, &absent) || errors.As(err, &invalid) {
		p.missing = err
		return nil
	}
	p.endpoint.Version = p.endpoint.Digest()
	return err
}

// noUser says that neither the Secret nor the spec tells as whom to log in.
func (p *pass) noUser() error {
	reason := fmt.Sprintf("has no key %q", credential.UsernameKey)
	if p.object.Spec.SSH != nil {
		reason += ", and spec.ssh.user is not set"
	}
	secret := types.NamespacedName{Namespace: p.object.Namespace, Name: p.object.Spec.CredentialsRef.Name}
	return &credential.InvalidError{Kind: "Secret", Key: secret, Reason: reason}
}

// hostKeys that the host may show: those declared, or the one pinned at the first meeting.
func (p *pass) hostKeys() []string {
	ssh := p.object.Spec.SSH
	switch {
	case ssh == nil:
		return nil
	case len(ssh.HostKeys) > 0:
		return ssh.HostKeys
	case p.object.Status.HostKey != "":
		return []string{p.object.Status.HostKey}
	}
	return nil
}

// user to log in as.
func user(spec v1alpha1.HostSpec, credentials credential.Credentials) string {
	if spec.SSH != nil && spec.SSH.User != "" {
		return spec.SSH.User
	}
	return credentials.Username
}

// via tells how the host is reached: "ssh deploy@:22", "winrm/NTLM orders@:5986".
func via(spec v1alpha1.HostSpec, credentials credential.Credentials) string {
	name := user(spec, credentials)
	switch {
	case spec.SSH != nil:
		return fmt.Sprintf("ssh %s@:%d", name, spec.SSH.Port)
	case spec.WinRM != nil:
		return fmt.Sprintf("winrm/%s %s@:%d", spec.WinRM.Authentication, name, spec.WinRM.PortOrDefault())
	}
	return ""
}
