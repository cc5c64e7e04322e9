package host

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// configure gives the fleet the endpoint and reads what it knows. Without an
// endpoint there is no link: whoever takes a Secret away means it. An endpoint
// that has to wait leaves the link as it is.
func (p *pass) configure() {
	if p.obstacle != nil {
		p.Fleet.Remove(p.key)
		p.link = fleet.HostStatus{State: fleet.Idle}
		return
	}
	if p.waiting == "" {
		p.endpoint.Refused = p.refused()
		p.Fleet.Configure(p.key, p.endpoint)
	}
	p.link, _ = p.Fleet.Host(p.key)
}

// refused is what is recorded of a refusal of this very login; empty if there is
// nothing, or a person asks for another attempt. An operator that is restarted
// again and again would otherwise lock the account, one attempt each time.
func (p *pass) refused() string {
	status := &p.object.Status
	accepted := condition.Get(status.Conditions, v1alpha1.CredentialsAcceptedCondition)
	if status.RefusedLogin == "" || accepted == nil || accepted.Status != metav1.ConditionFalse || status.RefusedLogin != p.endpoint.Login() {
		return ""
	}
	if asked := bounded(p.endpoint.RequestedAt, 256); asked != "" && asked != status.LastHandledReconcileAt {
		return ""
	}
	return accepted.Message
}
