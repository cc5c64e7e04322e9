package objects

import (
	"fmt"
	"sync"

	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Identity is a ServiceAccount.
type Identity struct {
	Namespace string
	Name      string
}

// String is what messages call it.
func (i Identity) String() string { return "ServiceAccount " + i.Namespace + "/" + i.Name }

// username by which the API server knows it.
func (i Identity) username() string { return serviceaccount.MakeUsername(i.Namespace, i.Name) }

// maxClients bounds the cache; a client is small and made without I/O.
const maxClients = 4096

// clients makes one client for each identity. All share the connections of the
// operator: client-go keeps one transport for each TLS configuration.
type clients struct {
	config *rest.Config

	mu    sync.Mutex
	known map[Identity]dynamic.Interface
}

// newClients copies the configuration. Client-side rate limits are off: the API
// server's own priority and fairness sees each ServiceAccount by itself, and a
// limit here would make one application wait for another.
func newClients(config *rest.Config) *clients {
	own := rest.CopyConfig(config)
	own.QPS, own.Burst, own.RateLimiter = -1, -1, nil
	return &clients{config: own, known: map[Identity]dynamic.Interface{}}
}

// as returns the client of an identity. Groups are left out on purpose: for a
// ServiceAccount the API server itself adds system:serviceaccounts,
// system:serviceaccounts:NAMESPACE and system:authenticated, and so the
// operator needs no right to impersonate any group.
func (c *clients) as(identity Identity) (dynamic.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client, ok := c.known[identity]; ok {
		return client, nil
	}
	config := rest.CopyConfig(c.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: identity.username()}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", identity, err)
	}
	if len(c.known) >= maxClients {
		clear(c.known)
	}
	c.known[identity] = client
	return client, nil
}
