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
	settings := parseFlags()
	log := ctrl.Log.WithName("isthmus")
	config := ctrl.GetConfigOrDie()
	// The API server's own priority and fairness is the limit; a second one here only adds waiting.
	config.QPS = -1
	ctx := ctrl.SetupSignalHandler()

	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	graceful := 10 * time.Second
	options := ctrl.Options{
		Scheme: scheme,
		Metrics: metricsserver.Options{
			BindAddress:    settings.metricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		HealthProbeBindAddress:        settings.probeAddress,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &graceful,
		Cache:                         controllers.CacheOptions(),
		Client:                        controllers.ClientOptions(),
	}
	if settings.leaderElection {
		lock, err := controllers.NewLock(config, settings.Namespace)
		exitOn(err, "make the lock of the election")
		settings.Identity = lock.Identity()
		options.LeaderElection, options.LeaderElectionResourceLockInterface = true, lock
	}
	manager, err := ctrl.NewManager(config, options)
	exitOn(err, "create the manager")
	exitOn(controllers.Setup(ctx, manager, settings.Options), "set up the controllers")
	exitOn(manager.AddHealthzCheck("healthz", healthz.Ping), "add the health check")
	exitOn(manager.AddReadyzCheck("readyz", healthz.Ping), "add the readiness check")
	log.Info("starting", "namespace", settings.Namespace, "leaderElection", settings.leaderElection)
	exitOn(manager.Start(ctx), "run")
}

// settings are what the flags say.
type settings struct {
	controllers.Options
	metricsAddress, probeAddress string
	leaderElection               bool
}

func parseFlags() settings {
	var s settings
	flag.StringVar(&s.metricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, such as :8443, over HTTPS and with authentication; 0 turns it off.")
	flag.StringVar(&s.probeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns them off.")
	flag.BoolVar(&s.leaderElection, "leader-elect", true, "Act only while holding the Lease isthmus in the operator's namespace.")
	flag.StringVar(&s.Namespace, "namespace", environment("POD_NAMESPACE", "isthmus-system"), "Namespace of the operator's own Lease.")
	flag.IntVar(&s.Workers, "workers", 8, "HybridApplications that are worked on at the same time.")
	flag.Func("allow-addresses", "Comma-separated CIDRs in which Hosts may be although they are loopback, link-local or metadata addresses, such as 127.0.0.0/8.", func(value string) error {
		for part := range strings.SplitSeq(value, ",") {
			prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			s.AllowedAddresses = append(s.AllowedAddresses, prefix)
		}
		return nil
	})
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	return s
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
