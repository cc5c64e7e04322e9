package host

import "github.com/isthmus-dev/isthmus/internal/fleet"

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
		p.Fleet.Configure(p.key, p.endpoint)
	}
	p.link, _ = p.Fleet.Host(p.key)
}
