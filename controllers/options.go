package controllers

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// Options of the operator.
type Options struct {
	// Namespace of the operator's own Lease.
	Namespace string
	// LeaderElection: act only while holding the Lease, which runs out Lease after its holder went silent.
	LeaderElection bool
	Lease          time.Duration
	// AllowedAddresses are ranges in which Hosts may be although they are special.
	AllowedAddresses []netip.Prefix
	// ClusterAddresses are ranges of the cluster's Pods and Services beside those that the API server knows of.
	ClusterAddresses []netip.Prefix
	// Workers is how many HybridApplications are worked on at once.
	Workers int
	// MetricsAddress and ProbeAddress are listened on; "0" turns them off.
	MetricsAddress, ProbeAddress string
	// Connect makes connections to hosts; nil: over SSH and WinRM. No flag sets it.
	Connect fleet.Connect

	// identity of this process in the election; empty: it runs without one.
	identity string
}

// BindFlags has the options set by flags.
func (o *Options) BindFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.MetricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, such as :8443, over HTTPS and with authentication; 0 turns it off.")
	flags.StringVar(&o.ProbeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns them off.")
	flags.BoolVar(&o.LeaderElection, "leader-elect", true, "Act only while holding the Lease isthmus in the operator's namespace.")
	flags.DurationVar(&o.Lease, "leader-elect-lease-duration", 15*time.Second, "How long a leader that has gone silent is waited for before another one acts.")
	flags.StringVar(&o.Namespace, "namespace", ownNamespace(), "Namespace of the operator's own Lease.")
	flags.IntVar(&o.Workers, "workers", 8, "HybridApplications that are worked on at the same time.")
	flags.Func("allow-addresses", "Comma-separated CIDRs in which Hosts may be although they are loopback, link-local, metadata or the cluster's own addresses, such as 127.0.0.0/8.", prefixes(&o.AllowedAddresses))
	flags.Func("cluster-addresses", "Comma-separated CIDRs of the cluster's Pods and Services, in which no Host may be, beside those of ServiceCIDRs and nodes. For networks that do not write them there, such as 10.0.0.0/8.", prefixes(&o.ClusterAddresses))
}

// prefixes has a flag add to a list.
func prefixes(list *[]netip.Prefix) func(string) error {
	return func(ranges string) error {
		for text := range strings.SplitSeq(ranges, ",") {
			prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
			if err != nil {
				return err
			}
			*list = append(*list, prefix)
		}
		return nil
	}
}

// ownNamespace is where the operator's Pod runs, if it runs in one.
func ownNamespace() string {
	if namespace := os.Getenv("POD_NAMESPACE"); namespace != "" {
		return namespace
	}
	return "isthmus-system"
}

// NewManager makes a manager for these options. Setup registers the controllers with it.
func NewManager(config *rest.Config, o *Options) (ctrl.Manager, error) {
	// The API server's own priority and fairness is the limit; a second one here only adds waiting.
	config.QPS = -1
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	graceful := 10 * time.Second
	options := ctrl.Options{
		Scheme: scheme,
		Metrics: metricsserver.Options{
			BindAddress:    o.MetricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		HealthProbeBindAddress:        o.ProbeAddress,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &graceful,
		Cache:                         cacheOptions(),
		Client:                        clientOptions(),
	}
	if !o.LeaderElection {
		return ctrl.NewManager(config, options)
	}
	lock, err := newLock(config, o.Namespace)
	if err != nil {
		return nil, err
	}
	return electedManager(config, o, options, watchLock(lock))
}

// electedManager makes a manager that acts only while it leads, and ends when it no longer does.
func electedManager(config *rest.Config, o *Options, options ctrl.Options, lock *deposed) (ctrl.Manager, error) {
	o.identity = lock.Identity()
	options.LeaderElection, options.LeaderElectionResourceLockInterface = true, lock
	// The proportions of client-go's defaults: 15 s, 10 s, 2 s.
	renew, retry := o.Lease*2/3, o.Lease*2/15
	options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = &o.Lease, &renew, &retry
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return nil, err
	}
	return mgr, mgr.Add(lock)
}
