package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/externalservice"
	"github.com/isthmus-dev/isthmus/controllers/host"
	"github.com/isthmus-dev/isthmus/controllers/hybridapplication"
	"github.com/isthmus-dev/isthmus/internal/artifact"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// reporter is who events come from.
const reporter = "isthmus"

// cacheOptions keep what no controller reads out of memory: managed fields, and
// the Services and EndpointSlices that are not ours.
func cacheOptions() cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			metadata(corev1.SchemeGroupVersion.WithKind("Service")):            ours,
			metadata(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice")): ours,
		},
	}
}

// metadata stands for the objects of a kind that are watched without their contents.
func metadata(kind schema.GroupVersionKind) client.Object {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	return object
}

// clientOptions have Secrets read live: the operator may get one, not list them.
func clientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}}
}

// Setup makes the fleet and registers a controller for each kind.
func Setup(ctx context.Context, mgr ctrl.Manager, options Options) error {
	live, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("make a live client: %w", err)
	}
	policy := fleet.NewAddressPolicy(options.AllowedAddresses)
	if err := refuseCluster(ctx, mgr, live, policy, options); err != nil {
		return err
	}
	connect := options.Connect
	if connect == nil {
		connect = connector(policy)
	}
	links := fleet.New(fleet.Options{
		Connect: connect,
		Kinds:   []string{externalservice.Kind},
		Epoch:   epoch(live, options),
		Policy:  policy,
		Log:     mgr.GetLogger().WithName("fleet"),
	})
	if err := mgr.Add(links); err != nil {
		return fmt.Errorf("add the fleet: %w", err)
	}
	for _, kind := range []func(context.Context, ctrl.Manager, *fleet.Fleet, client.Client, Options) error{
		setupHost, setupExternalService, setupHybridApplication,
	} {
		if err := kind(ctx, mgr, links, live, options); err != nil {
			return err
		}
	}
	return nil
}

// refuseCluster has the policy know the cluster's own ranges before the first connection, and keep up with them.
func refuseCluster(ctx context.Context, mgr ctrl.Manager, live client.Client, policy fleet.AddressPolicy, options Options) error {
	ranges := &clusterRanges{reader: live, policy: policy, given: options.ClusterAddresses, log: mgr.GetLogger().WithName("ranges")}
	ranges.learn(ctx)
	if err := mgr.Add(ranges); err != nil {
		return fmt.Errorf("add what learns the cluster's address ranges: %w", err)
	}
	return nil
}

func setupHost(ctx context.Context, mgr ctrl.Manager, links *fleet.Fleet, live client.Client, _ Options) error {
	reconciler := &host.Reconciler{
		Client:      mgr.GetClient(),
		Credentials: credential.Reader{Reader: live},
		Fleet:       links,
		Recorder:    mgr.GetEventRecorder(reporter),
		Clock:       clock.RealClock{},
	}
	if err := reconciler.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("set up the controller of Hosts: %w", err)
	}
	return nil
}

func setupExternalService(ctx context.Context, mgr ctrl.Manager, links *fleet.Fleet, live client.Client, options Options) error {
	cluster, err := clusterID(ctx, live)
	if err != nil {
		return err
	}
	reconciler := &externalservice.Reconciler{
		Client:  mgr.GetClient(),
		Live:    live,
		Secrets: credential.Reader{Reader: live},
		Fleet:   links,
		Jobs:    links,
		Artifacts: artifact.New(artifact.Options{
			Dialer: fleet.NewAddressPolicy(options.AllowedAddresses).Dialer(0),
		}),
		Cluster:  cluster,
		Recorder: mgr.GetEventRecorder(reporter),
		Clock:    clock.RealClock{},
	}
	if err := reconciler.SetupWithManager(ctx, mgr, links.Events(externalservice.Kind)); err != nil {
		return fmt.Errorf("set up the controller of ExternalServices: %w", err)
	}
	return nil
}

func setupHybridApplication(_ context.Context, mgr ctrl.Manager, _ *fleet.Fleet, _ client.Client, options Options) error {
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a discovery client: %w", err)
	}
	cluster := objects.NewCluster(mgr.GetConfig(), mgr.GetRESTMapper())
	// The watches are of applications that only the leader works on.
	stop := manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		cluster.Stop()
		return nil
	})
	if err := mgr.Add(stop); err != nil {
		return fmt.Errorf("add the watches of applications: %w", err)
	}
	reconciler := &hybridapplication.Reconciler{
		Client:   mgr.GetClient(),
		Objects:  cluster,
		Schemas:  objects.NewSchemas(kinds, mgr.GetRESTMapper(), clock.RealClock{}),
		Recorder: mgr.GetEventRecorder(reporter),
		Clock:    clock.RealClock{},
	}
	return reconciler.SetupWithManager(mgr, hybridapplication.Options{Changes: cluster, MaxConcurrentReconciles: options.Workers})
}

// clusterID names the cluster on hosts: the UID of the namespace kube-system,
// which no two clusters share and which lasts as long as the cluster.
func clusterID(ctx context.Context, live client.Client) (string, error) {
	system := &corev1.Namespace{}
	if err := live.Get(ctx, client.ObjectKey{Name: "kube-system"}, system); err != nil {
		return "", fmt.Errorf("read the UID of the cluster: %w", err)
	}
	return string(system.UID), nil
}
