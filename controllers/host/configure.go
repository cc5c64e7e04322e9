package host

import "github.com/isthmus-dev/isthmus/internal/fleet"

// configure gives the fleet the endpoint and reads what it knows. Without
// credentials there is no link: whoever takes a Secret away means it.
func (p *pass) configure() {
	if p.missing != nil {
		p.Fleet.Remove(p.key)
		p.link = fleet.HostStatus{State: fleet.Idle}
		return
	}
	p.Fleet.Configure(p.key, p.endpoint)
	p.link, _ = p.Fleet.Host(p.key)
}
