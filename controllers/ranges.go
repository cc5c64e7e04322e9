package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// +kubebuilder:rbac:groups="",resources=nodes,verbs=list
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=list

const (
	rangesInterval = 5 * time.Minute
	// pageSize of a list of nodes.
	pageSize = 500
)

// clusterRanges keeps the fleet from connecting to the cluster's own Pods and
// Services. It is no watch: a range that is added is used by Pods minutes later,
// and a watch of nodes would have every heartbeat of every node come by.
type clusterRanges struct {
	reader client.Reader // live
	policy fleet.AddressPolicy
	given  []netip.Prefix // by a flag, for networks that tell the API server nothing
	log    logr.Logger

	learnt []netip.Prefix
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: who becomes the leader has to know already.
func (*clusterRanges) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (c *clusterRanges) Start(ctx context.Context) error {
	wait.JitterUntilWithContext(ctx, c.learn, rangesInterval, 0.1, true)
	return nil
}

// learn takes the ranges over that the API server knows of. What cannot be read
// now stays as it was read last: forgetting it would open what was closed.
func (c *clusterRanges) learn(ctx context.Context) {
	services, servicesErr := c.services(ctx)
	pods, podsErr := c.pods(ctx)
	learnt := slices.Concat(services, pods)
	if err := errors.Join(servicesErr, podsErr); err != nil {
		if ctx.Err() != nil {
			return
		}
		c.log.Error(err, "Cannot learn all of the cluster's address ranges; those known before stay refused")
		learnt = append(learnt, c.learnt...)
	}
	slices.SortFunc(learnt, netip.Prefix.Compare)
	c.learnt = slices.Compact(learnt)
	c.policy.RefuseCluster(slices.Concat(c.given, c.learnt))
}

// services are the ranges of the cluster's Services. Clusters before 1.33 do not
// tell them; there it is the address of the API server's own Service at least.
func (c *clusterRanges) services(ctx context.Context) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	if address, err := netip.ParseAddr(os.Getenv("KUBERNETES_SERVICE_HOST")); err == nil {
		ranges = append(ranges, netip.PrefixFrom(address, address.BitLen()))
	}
	list := &networkingv1.ServiceCIDRList{}
	err := c.reader.List(ctx, list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return ranges, nil
	}
	if err != nil {
		return ranges, fmt.Errorf("list the ranges of Services: %w", err)
	}
	for _, item := range list.Items {
		ranges = append(ranges, parseRanges(item.Spec.CIDRs)...)
	}
	return ranges, nil
}

// pods are the ranges that nodes have for their Pods.
func (c *clusterRanges) pods(ctx context.Context) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	next := ""
	for {
		list := &corev1.NodeList{}
		if err := c.reader.List(ctx, list, client.Limit(pageSize), client.Continue(next)); err != nil {
			return ranges, fmt.Errorf("list the nodes' ranges of Pods: %w", err)
		}
		for _, node := range list.Items {
			ranges = append(ranges, parseRanges(append(node.Spec.PodCIDRs, node.Spec.PodCIDR))...)
		}
		if next = list.Continue; next == "" {
			return ranges, nil
		}
	}
}

// parseRanges reads what the API server has validated; what it left empty is passed over.
func parseRanges(texts []string) []netip.Prefix {
	var ranges []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			ranges = append(ranges, prefix.Masked())
		}
	}
	return ranges
}
