package operator

import (
	"context"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// Populate writes Hosts that are simulated, and ExternalServices with one file
// each, all at the intervals that are the defaults, and waits until all are Ready.
func (o *Operator) Populate(ctx context.Context, hosts, objects int, say func(format string, args ...any)) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: credentials},
		StringData: map[string]string{"username": "simulated", "password": "simulated"},
	}
	if err := o.Client.Create(ctx, secret); err != nil {
		return err
	}
	var everything []client.Object
	for i := range hosts {
		everything = append(everything, simulatedHost(i))
	}
	for i := range objects {
		everything = append(everything, simulatedService(i, i%hosts))
	}
	if err := all(ctx, everything, func(ctx context.Context, object client.Object) error { return o.Client.Create(ctx, object) }); err != nil {
		return err
	}
	say("%d Hosts and %d ExternalServices are written", hosts, objects)
	return o.awaitReady(ctx, hosts, objects, say)
}

func simulatedHost(i int) *v1alpha1.Host {
	return &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("host-", i)},
		Spec: v1alpha1.HostSpec{
			Address: fmt.Sprintf("host-%d.invalid", i), OS: v1alpha1.Linux,
			SSH:            &v1alpha1.SSHTransport{TrustOnFirstUse: true},
			CredentialsRef: v1alpha1.LocalReference{Name: credentials},
		},
	}
}

func simulatedService(i, host int) *v1alpha1.ExternalService {
	content := fmt.Sprintf("# configuration %d\nsetting = %d\n", i, i*i)
	return &v1alpha1.ExternalService{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("service-", i)},
		Spec: v1alpha1.ExternalServiceSpec{
			HostRef: v1alpha1.HostReference{Name: fmt.Sprint("host-", host)},
			Files:   []v1alpha1.File{{Path: fmt.Sprintf("/etc/service-%d.conf", i), Content: &content}},
		},
	}
}

// awaitReady counts now and then: a watch over all objects would be the largest user of the API server.
func (o *Operator) awaitReady(ctx context.Context, hosts, objects int, say func(format string, args ...any)) error {
	for {
		services, machines := &v1alpha1.ExternalServiceList{}, &v1alpha1.HostList{}
		if err := o.Client.List(ctx, services, client.InNamespace(namespace)); err != nil {
			return err
		}
		if err := o.Client.List(ctx, machines, client.InNamespace(namespace)); err != nil {
			return err
		}
		ready, met := 0, 0
		for i := range services.Items {
			if isReady(&services.Items[i]) {
				ready++
			}
		}
		for _, h := range machines.Items {
			if h.Status.ObservedGeneration == h.Generation && h.Status.Users == int32((objects+hosts-1)/hosts) {
				met++
			}
		}
		say("%d of %d ExternalServices are Ready, %d of %d Hosts are met", ready, objects, met, hosts)
		if ready == objects && met == hosts {
			return nil
		}
		if err := sleep(ctx, 5*time.Second); err != nil {
			return err
		}
	}
}

// Idle is what a span of time without changes has cost.
type Idle struct {
	Cost
	Writes map[string]int // requests that change something, by resource
	Looks  int            // at hosts
}

// Idle does nothing for a while and says what happened.
func (o *Operator) Idle(ctx context.Context, window time.Duration) (idle Idle, err error) {
	before, err := o.Writes(ctx)
	if err != nil {
		return idle, err
	}
	looks, failed, err := o.metrics.requests(ctx)
	if err != nil {
		return idle, err
	}
	if idle.Cost, err = o.measure(func() error { return sleep(ctx, window) }); err != nil {
		return idle, err
	}
	after, failedAfter, err := o.metrics.requests(ctx)
	if err != nil {
		return idle, err
	}
	if failedAfter > failed {
		return idle, fmt.Errorf("%d requests to hosts have failed", failedAfter-failed)
	}
	idle.Looks = int(after - looks)
	now, err := o.Writes(ctx)
	idle.Writes = map[string]int{}
	for resource, count := range now {
		if grown := count - before[resource]; grown > 0 {
			idle.Writes[resource] = grown
		}
	}
	return idle, err
}

// Memory of the operator, in bytes.
type Memory struct {
	Heap int64 // in use
	RSS  int64
}

// Memory reads it from the operator's metrics and from the kernel. The operator is a
// program that collects its garbage at SIGUSR1.
func (o *Operator) Memory(ctx context.Context) (memory Memory, err error) {
	if err := syscall.Kill(o.PID(), syscall.SIGUSR1); err != nil {
		return memory, fmt.Errorf("ask the operator to collect its garbage: %w", err)
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return memory, err
	}
	families, err := o.metrics.read(ctx)
	if err != nil {
		return memory, err
	}
	for _, metric := range families["go_memstats_heap_alloc_bytes"].GetMetric() {
		memory.Heap = int64(metric.GetGauge().GetValue())
	}
	memory.RSS, err = usage.RSS(o.PID())
	return memory, err
}
