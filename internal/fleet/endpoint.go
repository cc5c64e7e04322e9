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
