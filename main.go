// Command isthmus is the operator: it keeps applications in their declared
// state when part of them lives in Kubernetes and part does not.
package main

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers"
)

func main() {
	var (
		metricsAddress, probeAddress, namespace string
		leaderElection                          bool
		options                                 controllers.Options
	)
	flag.StringVar(&metricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, such as :8443, over HTTPS and with authentication; 0 turns it off.")
	flag.StringVar(&probeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns them off.")
	flag.BoolVar(&leaderElection, "leader-elect", true, "Act only while holding the Lease isthmus in the operator's namespace.")
	flag.StringVar(&namespace, "namespace", environment("POD_NAMESPACE", "isthmus-system"), "Namespace of the operator's own objects: its Lease and its epoch.")
	flag.Func("allow-addresses", "Comma-separated CIDRs in which Hosts may be although they are loopback or link-local, such as 127.0.0.0/8. Metadata and API addresses stay refused unless named.", func(value string) error {
		for part := range strings.SplitSeq(value, ",") {
			prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			options.AllowedAddresses = append(options.AllowedAddresses, prefix)
		}
		return nil
	})
	flag.IntVar(&options.Workers, "workers", 8, "Objects of one kind that are reconciled at the same time.")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	log := ctrl.Log.WithName("isthmus")

	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	graceful := 10 * time.Second
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Scheme: scheme,
		Metrics: metricsserver.Options{
			BindAddress:    metricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		HealthProbeBindAddress:        probeAddress,
		LeaderElection:                leaderElection,
		LeaderElectionID:              "isthmus",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &graceful,
		Cache:                         controllers.CacheOptions(),
		Client:                        controllers.ClientOptions(),
	})
	exitOn(err, "create the manager")
	options.Namespace = namespace
	exitOn(controllers.Setup(manager, options), "set up the controllers")
	exitOn(manager.AddHealthzCheck("healthz", healthz.Ping), "add the health check")
	exitOn(manager.AddReadyzCheck("readyz", healthz.Ping), "add the readiness check")
	log.Info("starting", "namespace", namespace, "leaderElection", leaderElection)
	exitOn(manager.Start(ctrl.SetupSignalHandler()), "run")
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func exitOn(err error, doing string) {
	if err != nil {
		ctrl.Log.WithName("isthmus").Error(err, doing)
		os.Exit(1)
	}
}
