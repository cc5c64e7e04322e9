// Command isthmus is the operator: it keeps applications in their declared
// state when part of them lives in Kubernetes and part does not.
package main

import (
	"flag"
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/isthmus-dev/isthmus/controllers"
)

func main() {
	options, logging := controllers.Options{}, zap.Options{}
	options.BindFlags(flag.CommandLine)
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))

	ctx := ctrl.SetupSignalHandler()
	manager, err := controllers.NewManager(ctrl.GetConfigOrDie(), &options)
	exitOn(err, "create the manager")
	exitOn(controllers.Setup(ctx, manager, options), "set up the controllers")
	exitOn(manager.AddHealthzCheck("healthz", healthz.Ping), "add the health check")
	exitOn(manager.AddReadyzCheck("readyz", healthz.Ping), "add the readiness check")
	ctrl.Log.Info("starting", "namespace", options.Namespace, "leaderElection", options.LeaderElection)
	exitOn(manager.Start(ctx), "run")
}

func exitOn(err error, doing string) {
	if err != nil {
		ctrl.Log.Error(err, doing)
		os.Exit(1)
	}
}
