package externalservice_test

import (
	"context"
	"errors"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/externalservice"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

// operator is one process: a fleet, a reconciler, and the calls that it makes to the API.
type operator struct {
	world      *world
	fleet      *fleet.Fleet
	reconciler *externalservice.Reconciler
	cancel     context.CancelFunc
	ended      chan struct{}

	mu     sync.Mutex
	writes []string
	// dies after so many writes; the last of them arrives. Negative: never.
	dies   int
	ending ending
	// stale is what reads of the object return instead, if set.
	stale *v1alpha1.ExternalService
}

// ending is how a process ends.
type ending string

const (
	// unanswered: its last call arrived, and it never heard of that.
	unanswered ending = "before its last call is answered"
	// unheeded: it goes on to the end of the pass, and nothing that it asks of its fleet is done.
	unheeded ending = "before its fleet does anything"
)

var errDead = errors.New("the process has ended")

// begin starts a new process, without any memory of an earlier one.
func (w *world) begin() {
	GinkgoHelper()
	if w.operator != nil {
		w.operator.end()
	}
	o := &operator{world: w, dies: -1, ended: make(chan struct{})}
	o.fleet = fleet.New(fleet.Options{
		Connect: w.network.Connect,
		Kinds:   []string{externalservice.Kind},
		Probe:   func(_ context.Context, _ string, p fleet.Probe) error { return w.probe(p) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	go func() {
		defer close(o.ended)
		defer GinkgoRecover()
		Expect(o.fleet.Start(ctx)).To(Succeed())
	}()
	go drain(ctx, o.fleet)
	o.reconciler = &externalservice.Reconciler{
		Client: interceptor.NewClient(live, o.calls()), Live: live, Secrets: credential.Reader{Reader: live},
		Fleet: o.fleet, Jobs: o.fleet, Cluster: "cluster-1", Recorder: w.recorder, Clock: w.clock,
	}
	w.operator = o
	o.connect()
}

// drain takes the fleet's events: these tests make passes themselves.
func drain(ctx context.Context, f *fleet.Fleet) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.Events(externalservice.Kind):
		}
	}
}

func (o *operator) end() {
	o.cancel()
	<-o.ended
}

// connect configures the link, as the Host's controller would.
func (o *operator) connect() {
	spec := v1alpha1.HostSpec{
		Address: address, OS: v1alpha1.Linux, SSH: &v1alpha1.SSHTransport{},
		Probe: v1alpha1.HostProbe{Interval: duration(time.Second), Timeout: duration(2 * time.Second)},
	}
	endpoint := fleet.Endpoint{Spec: spec}
	endpoint.Version = endpoint.Digest()
	o.fleet.Configure(o.world.hostKey, endpoint)
}

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// write counts a call that changes something, and fails the calls of a dead process.
func (o *operator) write(what string, do func() error) error {
	o.mu.Lock()
	if o.dies >= 0 && len(o.writes) >= o.dies {
		o.mu.Unlock()
		return errDead
	}
	o.writes = append(o.writes, what)
	dead := o.dies >= 0 && len(o.writes) >= o.dies
	o.mu.Unlock()
	if err := do(); err != nil {
		return err
	}
	if !dead {
		return nil
	}
	if o.ending == unheeded {
		o.end()
		return nil
	}
	return errDead
}

func (o *operator) dead() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dies >= 0 && len(o.writes) >= o.dies
}

func (o *operator) written() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.writes...)
}

func (o *operator) forgetWrites() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes = nil
}

func (o *operator) calls() interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if es, ok := object.(*v1alpha1.ExternalService); ok && o.stale != nil {
				o.stale.DeepCopyInto(es)
				return nil
			}
			return c.Get(ctx, key, object, options...)
		},
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			return o.write("create", func() error { return c.Create(ctx, object, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			return o.write("delete "+object.GetName(), func() error { return c.Delete(ctx, object, options...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			return o.write("patch "+object.GetName(), func() error { return c.Patch(ctx, object, patch, options...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			return o.write("apply", func() error { return c.Apply(ctx, object, options...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			return o.write("patch "+name, func() error { return c.SubResource(name).Patch(ctx, object, patch, options...) })
		},
	}
}
