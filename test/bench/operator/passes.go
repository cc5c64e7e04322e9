package operator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/bench/target"
)

// limit of one pass: what takes longer is a failure.
const limit = 10 * time.Minute

// First is a first pass: from before the first Host is created to the moment at
// which the API has told that the last ExternalService is Ready.
func (o *Operator) First(ctx context.Context, hosts []*target.Host) (wall time.Duration, cost Cost, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	waiting := map[string]bool{}
	var services []*v1alpha1.ExternalService
	var objects []*v1alpha1.Host
	for _, h := range hosts {
		objects = append(objects, HostFor(h))
		services = append(services, ServicesFor(h)...)
	}
	for _, service := range services {
		waiting[service.Name] = true
	}
	ready, err := o.follow(ctx, &v1alpha1.ExternalServiceList{})
	if err != nil {
		return 0, cost, err
	}
	defer ready.Stop()
	cost, err = o.measure(func() error {
		began := time.Now()
		err := awaitAfter(ctx, ready, waiting, isReady, func(ctx context.Context) error {
			return errors.Join(
				all(ctx, objects, func(ctx context.Context, h *v1alpha1.Host) error { return o.Client.Create(ctx, h) }),
				all(ctx, services, func(ctx context.Context, s *v1alpha1.ExternalService) error { return o.Client.Create(ctx, s) }))
		})
		wall = time.Since(began)
		return err
	})
	return wall, cost, err
}

func isReady(object client.Object) bool {
	service := object.(*v1alpha1.ExternalService)
	ready := meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ReadyCondition)
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == service.Generation
}

// follow watches objects from now on. A busy API server ends a watch that is read too
// slowly for it, as it may at any time; it is taken up where it ended.
func (o *Operator) follow(ctx context.Context, list client.ObjectList) (watch.Interface, error) {
	if err := o.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	again := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		fresh := list.DeepCopyObject().(client.ObjectList)
		return o.Client.Watch(ctx, fresh, &client.ListOptions{Namespace: namespace, Raw: &options})
	}
	return watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{WatchFuncWithContext: again})
}

// awaitAfter waits for what an action leads to, and listens from before the action on.
func awaitAfter(ctx context.Context, events watch.Interface, waiting map[string]bool, fits func(client.Object) bool, act func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return await(ctx, events, waiting, fits) })
	group.Go(func() error { return act(ctx) })
	return group.Wait()
}

// await waits until each object that is waited for was seen as it should be.
func await(ctx context.Context, events watch.Interface, waiting map[string]bool, fits func(client.Object) bool) error {
	for len(waiting) > 0 {
		select {
		case event, open := <-events.ResultChan():
			if !open {
				return errors.Join(fmt.Errorf("the watch ended while %d objects were waited for", len(waiting)), ctx.Err())
			}
			if object, ok := event.Object.(client.Object); ok && waiting[object.GetName()] && fits(object) {
				delete(waiting, object.GetName())
			}
		case <-ctx.Done():
			return fmt.Errorf("%d objects are still waited for, among them %v: %w", len(waiting), one(waiting), ctx.Err())
		}
	}
	return nil
}

func one(of map[string]bool) string {
	for name := range of {
		return name
	}
	return ""
}

// Requested is a pass that a person asks for: each Host is annotated, and the
// pass has ended when each has been answered in its status. That each was looked at
// anew is not only believed: the operator's metrics count it. Hosts in also are
// asked, and neither waited for nor expected to answer.
func (o *Operator) Requested(ctx context.Context, hosts []*target.Host, also ...*target.Host) (wall time.Duration, cost Cost, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answered, err := o.follow(ctx, &v1alpha1.HostList{})
	if err != nil {
		return 0, cost, err
	}
	defer answered.Stop()
	looked, failed, err := o.metrics.requests(ctx)
	if err != nil {
		return 0, cost, err
	}
	failures := failed
	if len(also) > 0 {
		failures = math.MaxUint64
	}
	stamp := time.Now().Format(time.RFC3339Nano)
	cost, err = o.measure(func() error {
		began := time.Now()
		err := awaitAfter(ctx, answered, named(hosts), func(object client.Object) bool {
			return object.(*v1alpha1.Host).Status.LastHandledReconcileAt == stamp
		}, func(ctx context.Context) error {
			return o.request(ctx, stamp, append(append([]*target.Host(nil), also...), hosts...))
		})
		if err == nil {
			err = o.looked(ctx, looked+uint64(len(hosts)), failures)
		}
		wall = time.Since(began)
		return err
	})
	return wall, cost, err
}

func (o *Operator) request(ctx context.Context, stamp string, hosts []*target.Host) error {
	var objects []*v1alpha1.Host
	for _, h := range hosts {
		objects = append(objects, HostFor(h))
	}
	patch := client.RawPatch("application/merge-patch+json",
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ReconcileRequestAnnotation, stamp))
	return all(ctx, objects, func(ctx context.Context, h *v1alpha1.Host) error { return o.Client.Patch(ctx, h, patch) })
}

func named(hosts []*target.Host) map[string]bool {
	names := map[string]bool{}
	for _, h := range hosts {
		names[h.Name] = true
	}
	return names
}

// glance is how often the operator is asked how many hosts it has looked at. Each question costs it a millisecond or two.
const glance = 25 * time.Millisecond

// looked waits until so many requests to hosts were answered in all. Unless asked, no
// host is looked at (never), so each of them is the look that was asked for.
func (o *Operator) looked(ctx context.Context, wanted, failures uint64) error {
	for {
		answered, failed, err := o.metrics.requests(ctx)
		switch {
		case err != nil:
			return err
		case failed > failures:
			return fmt.Errorf("%d requests to hosts have failed", failed-failures)
		case answered >= wanted:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d hosts have not been looked at: %w", wanted-answered, wanted, ctx.Err())
		case <-time.After(glance):
		}
	}
}

// ByInterval lets the operator look at the hosts on its own for a while, each
// at an interval, and says how many looks there were and what they cost.
func (o *Operator) ByInterval(ctx context.Context, hosts []*target.Host, interval, window time.Duration) (looks int, cost Cost, err error) {
	if err := o.setInterval(ctx, hosts, interval); err != nil {
		return 0, cost, err
	}
	if err := sleep(ctx, 2*interval); err != nil { // the change itself is not what is measured
		return 0, cost, err
	}
	before, failed, err := o.metrics.requests(ctx)
	if err != nil {
		return 0, cost, err
	}
	if cost, err = o.measure(func() error { return sleep(ctx, window) }); err != nil {
		return 0, cost, err
	}
	after, failedAfter, err := o.metrics.requests(ctx)
	if err == nil && failedAfter > failed {
		err = fmt.Errorf("%d requests to hosts have failed", failedAfter-failed)
	}
	return int(after - before), cost, errors.Join(err, o.setInterval(ctx, hosts, never), sleep(ctx, 2*interval))
}

func (o *Operator) setInterval(ctx context.Context, hosts []*target.Host, interval time.Duration) error {
	var objects []*v1alpha1.Host
	for _, h := range hosts {
		objects = append(objects, HostFor(h))
	}
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"probe":{"interval":%q}}}`, interval))
	return all(ctx, objects, func(ctx context.Context, h *v1alpha1.Host) error { return o.Client.Patch(ctx, h, patch) })
}

// Clear deletes all objects of a run and waits until they are gone.
func (o *Operator) Clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, list := range []client.ObjectList{&v1alpha1.ExternalServiceList{}, &v1alpha1.HostList{}} {
		if err := o.clear(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

func (o *Operator) clear(ctx context.Context, list client.ObjectList) error {
	if err := o.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return err
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	var objects []client.Object
	for _, item := range items {
		objects = append(objects, item.(client.Object))
	}
	err = all(ctx, objects, func(ctx context.Context, object client.Object) error {
		return client.IgnoreNotFound(o.Client.Delete(ctx, object))
	})
	for err == nil {
		if err = o.Client.List(ctx, list, client.InNamespace(namespace)); err == nil && meta.LenList(list) == 0 {
			return nil
		}
		err = errors.Join(err, sleep(ctx, 100*time.Millisecond))
	}
	return fmt.Errorf("delete the objects of a run: %w", err)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
