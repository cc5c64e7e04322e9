package controllers

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/isthmus-dev/isthmus/internal/fleet"
)

func TestTheClustersOwnRangesAreRefused(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "172.30.0.1")
	services := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16", "fd96::/108"}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/24", PodCIDRs: []string{"10.244.0.0/24", "fd44::/64"}}}
	other := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}} // its network does not say
	var failing error
	reader := interceptor.NewClient(fake.NewClientBuilder().WithObjects(services, node, other).Build(), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if _, of := list.(*networkingv1.ServiceCIDRList); of && failing != nil {
				return failing
			}
			return c.List(ctx, list, options...)
		},
	})
	policy := fleet.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("10.96.7.0/24")})
	ranges := &clusterRanges{reader: reader, policy: policy, given: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, log: logr.Discard()}
	assert.NoError(t, policy.Check(netip.MustParseAddr("10.96.0.1")), "nothing is known yet")
	ranges.learn(t.Context())

	check := func() {
		t.Helper()
		for _, refused := range []string{"10.96.0.1", "fd96::1", "10.244.0.9", "fd44::9", "192.168.3.4", "172.30.0.1", "::ffff:10.96.0.1"} {
			var address *fleet.AddressError
			if assert.ErrorAs(t, policy.Check(netip.MustParseAddr(refused)), &address, refused) {
				assert.Equal(t, "in the cluster's own Pod or Service range", address.Range)
			}
		}
		for _, allowed := range []string{"10.96.7.1", "10.244.1.9", "172.30.0.2", "192.0.2.1"} {
			assert.NoError(t, policy.Check(netip.MustParseAddr(allowed)), allowed)
		}
	}
	check()
	failing = errors.New("the server is away")
	ranges.learn(t.Context())
	check() // What was closed stays closed.

	failing = &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "ServiceCIDR"}}
	ranges.learn(t.Context())
	assert.Error(t, policy.Check(netip.MustParseAddr("10.244.0.9")), "an older cluster has nodes")
	assert.NoError(t, policy.Check(netip.MustParseAddr("10.96.0.1")))
}

func TestClusterAddressesAreGivenByAFlag(t *testing.T) {
	parse := func(arguments ...string) (Options, error) {
		options, flags := Options{}, flag.NewFlagSet("isthmus", flag.ContinueOnError)
		flags.SetOutput(discard{})
		options.BindFlags(flags)
		return options, flags.Parse(arguments)
	}
	options, err := parse("--cluster-addresses=10.0.0.0/8, fd00::/8", "--allow-addresses=127.0.0.0/8")
	require.NoError(t, err)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, options.ClusterAddresses)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, options.AllowedAddresses)
	_, err = parse("--cluster-addresses=10.0.0.0")
	assert.Error(t, err)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
