package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Digest of what makes the way to the host, for Endpoint.Version. What can
// change without a new connection is left out: the schedule, maintenance,
// suspension, and who may use the host. Credentials count by their version.
func (e Endpoint) Digest() string {
	jump := ""
	if e.Jump != nil {
		jump = e.Jump.Digest()
	}
	text, err := json.Marshal(struct {
		Address, StateDirectory, Credentials, Jump string
		OS                                         v1alpha1.OperatingSystem
		SSH                                        *v1alpha1.SSHTransport
		WinRM                                      *v1alpha1.WinRMTransport
		HostKeys                                   []string
		CA                                         []byte
	}{
		Address: e.Spec.Address, StateDirectory: e.Spec.StateDirectory, Credentials: e.Credentials.Version, Jump: jump,
		OS: e.Spec.OS, SSH: e.Spec.SSH, WinRM: e.Spec.WinRM, HostKeys: e.HostKeys, CA: e.CA,
	})
	if err != nil {
		panic("fleet: an endpoint that cannot be written as JSON: " + err.Error()) // strings and numbers only
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Login is the digest of where and as whom the operator logs in, in a form that
// the next operator understands: credentials count by the revision of their Secret.
func (e Endpoint) Login() string {
	e.Credentials.Version = e.Credentials.Revision
	for link := &e; link.Jump != nil; link = link.Jump {
		jump := *link.Jump
		jump.Credentials.Version = jump.Credentials.Revision
		link.Jump = &jump
	}
	return e.login()
}

// login is a digest of where and as whom the operator logs in. A host that has
// refused it will do so again, whatever else is edited: the keys that it may
// show, its certificate's authority, the directory on it.
func (e Endpoint) login() string {
	only := Endpoint{Spec: v1alpha1.HostSpec{Address: e.Spec.Address}, Jump: e.Jump}
	only.Credentials.Version = e.Credentials.Version
	if ssh := e.Spec.SSH; ssh != nil {
		only.Spec.SSH = &v1alpha1.SSHTransport{Port: ssh.Port, User: ssh.User, Become: ssh.Become}
	}
	if winrm := e.Spec.WinRM; winrm != nil {
		only.Spec.WinRM = &v1alpha1.WinRMTransport{
			Scheme: winrm.Scheme, Port: winrm.Port, Authentication: winrm.Authentication, Kerberos: winrm.Kerberos,
		}
	}
	return only.Digest()
}
