package externalservice_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

func metaOf(key types.NamespacedName) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
}

// slice of the ledger; nil if there is none.
func (w *world) slice(ctx context.Context, name string) *discoveryv1.EndpointSlice {
	GinkgoHelper()
	slice := &discoveryv1.EndpointSlice{}
	err := live.Get(ctx, types.NamespacedName{Namespace: w.namespace, Name: name}, slice)
	if apierrors.IsNotFound(err) {
		return nil
	}
	Expect(err).NotTo(HaveOccurred())
	return slice
}

func (w *world) endpointReady(ctx context.Context) bool {
	slice := w.slice(ctx, "ledger-isthmus-ipv4")
	return slice != nil && *slice.Endpoints[0].Conditions.Ready
}

var _ = Describe("The face inside the cluster", func() {
	var w *world
	BeforeEach(func(ctx SpecContext) { w = newWorld(ctx) })

	It("is a Service with an EndpointSlice that follows health", func(ctx SpecContext) {
		var sick atomic.Bool
		w.probe = func(fleet.Probe) error {
			if sick.Load() {
				return errors.New("connection refused")
			}
			return nil
		}
		w.create(ctx, exposed, func(s *v1alpha1.ExternalServiceSpec) {
			s.Readiness = &v1alpha1.Readiness{TCP: &v1alpha1.TCPProbe{Port: 8080}, Interval: duration(1e9), FailureThreshold: 1}
			s.Outputs = []v1alpha1.Output{
				{Name: "url", Value: "http://${service.dnsName}:${service.ports.http}"},
				{Name: "ip", Value: "${service.clusterIP}"},
				{Name: "pid", Value: "${observed.pid}"},
				{Name: "os", Value: "${host.facts.osVersion} at ${host.address}"},
				{Name: "unit", Value: "${spec.systemd.unit}"},
			}
		})
		service := &corev1.Service{}
		Expect(live.Get(ctx, w.key, service)).To(Succeed())
		Expect(service.Spec.Selector).To(BeEmpty())
		Expect(service.Spec.Ports[0].TargetPort.IntValue()).To(Equal(8080))
		Expect(metav1.IsControlledBy(service, w.find(ctx))).To(BeTrue())
		slice := w.slice(ctx, "ledger-isthmus-ipv4")
		Expect(slice.Labels).To(And(HaveKeyWithValue("kubernetes.io/service-name", "ledger"), HaveKeyWithValue("endpointslice.kubernetes.io/managed-by", "isthmus")))
		Expect(slice.AddressType).To(Equal(discoveryv1.AddressTypeIPv4))
		Expect(slice.Endpoints[0].Addresses).To(Equal([]string{address}))
		Expect(*slice.Ports[0].Port).To(BeEquivalentTo(8080))
		status := w.find(ctx).Status
		Expect(*status.Endpoint).To(Equal(v1alpha1.Endpoint{ServiceName: "ledger", Address: address, Ready: true, ClusterIP: service.Spec.ClusterIP}))
		Expect(status.Outputs).To(And(
			HaveKeyWithValue("url", "http://ledger."+w.namespace+".svc:80"), HaveKeyWithValue("ip", service.Spec.ClusterIP),
			HaveKey("pid"), HaveKeyWithValue("os", "12 at "+address), HaveKeyWithValue("unit", "ledger.service")))

		sick.Store(true)
		w.untilReason(ctx, "False/NotHealthy")
		Expect(w.message(ctx, v1alpha1.HealthyCondition)).To(ContainSubstring("connection refused"))
		Expect(w.endpointReady(ctx)).To(BeFalse())
		Expect(w.host.Effects("restart")).To(BeZero())
		sick.Store(false)
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.endpointReady(ctx)).To(BeTrue())

		held := make(chan struct{})
		w.probe = func(fleet.Probe) error {
			<-held
			return errors.New("connection refused")
		}
		w.begin() // whose probe has no result at first
		w.until(ctx, "a look at the host", func() bool { return w.operator.fleet.View(w.hostKey, w.object()).Complete })
		for range 5 {
			w.pass(ctx)
		}
		Expect(w.endpointReady(ctx)).To(BeTrue(), "unknown is not unhealthy")
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("True/Succeeded"))
		close(held)
		w.untilReason(ctx, "False/NotHealthy")
	})

	It("follows what a user changes, and goes when it is no longer wanted", func(ctx SpecContext) {
		w.create(ctx, exposed)
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			es.Spec.Expose.Address = "2001:db8::7"
			es.Spec.Ports[0].Port = 81
		})
		w.until(ctx, "IPv6", func() bool { return w.slice(ctx, "ledger-isthmus-ipv6") != nil })
		Expect(w.slice(ctx, "ledger-isthmus-ipv4")).To(BeNil())
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Expose.ServiceName = "books" })
		w.until(ctx, "the new name", func() bool { return w.slice(ctx, "books-isthmus-ipv6") != nil })
		Expect(w.slice(ctx, "ledger-isthmus-ipv6")).To(BeNil())
		Expect(apierrors.IsNotFound(live.Get(ctx, w.key, &corev1.Service{}))).To(BeTrue())
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Expose = nil })
		w.until(ctx, "no face", func() bool { return w.find(ctx).Status.Endpoint == nil })
		Expect(w.slice(ctx, "books-isthmus-ipv6")).To(BeNil())
	})

	It("puts back what somebody changed", func(ctx SpecContext) {
		w.create(ctx, exposed)
		service := &corev1.Service{}
		Expect(live.Get(ctx, w.key, service)).To(Succeed())
		service.Spec.Ports[0].Port = 99
		Expect(live.Update(ctx, service)).To(Succeed())
		w.until(ctx, "port 80", func() bool {
			Expect(live.Get(ctx, w.key, service)).To(Succeed())
			return service.Spec.Ports[0].Port == 80
		})
		Expect(live.Delete(ctx, w.slice(ctx, "ledger-isthmus-ipv4"))).To(Succeed())
		w.until(ctx, "the slice", func() bool { return w.slice(ctx, "ledger-isthmus-ipv4") != nil })
	})

	It("never takes over a Service of others", func(ctx SpecContext) {
		theirs := &corev1.Service{ObjectMeta: metaOf(w.key), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 7}}}}
		Expect(live.Create(ctx, theirs)).To(Succeed())
		w.declare(ctx, exposed)
		w.untilReason(ctx, "False/Conflict")
		Expect(w.host.Journal()).To(Equal(created), "the service itself is kept all the same")
		after := &corev1.Service{}
		Expect(live.Get(ctx, w.key, after)).To(Succeed())
		Expect(after.ResourceVersion).To(Equal(theirs.ResourceVersion))
		Expect(live.Delete(ctx, theirs)).To(Succeed())
		w.until(ctx, "Ready", w.ready(ctx))
	})

	It("says that a loopback address cannot be an endpoint", func(ctx SpecContext) {
		w.declare(ctx, exposed, func(s *v1alpha1.ExternalServiceSpec) { s.Expose.Address = "127.0.0.1" })
		w.untilReason(ctx, "False/Invalid")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(ContainSubstring("loopback"), ContainSubstring("spec.expose.address")))
	})

	It("sends nobody to an address that is no longer the one", func(ctx SpecContext) {
		w.create(ctx, exposed)
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Expose.Address = "127.0.0.1" })
		w.untilReason(ctx, "False/Invalid")
		Expect(w.find(ctx).Status.Endpoint.Ready).To(BeFalse())
		Expect(w.slice(ctx, "ledger-isthmus-ipv4")).To(BeNil())
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Expose.Address = "2001:db8::7" })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.slice(ctx, "ledger-isthmus-ipv4")).To(BeNil())
		Expect(w.slice(ctx, "ledger-isthmus-ipv6")).NotTo(BeNil())
	})

	It("says where an output is wrong", func(ctx SpecContext) {
		w.declare(ctx, func(s *v1alpha1.ExternalServiceSpec) {
			s.Outputs = []v1alpha1.Output{{Name: "bad", Value: "${nonsense}"}, {Name: "later", Value: "${service.dnsName}"}}
		})
		w.untilReason(ctx, "False/Invalid")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("spec.outputs[bad]"))
		Expect(w.find(ctx).Status.Outputs).To(BeEmpty(), "what is not known yet is awaited")
	})
})

var _ = Describe("A host that does not answer", func() {
	for policy, admitted := range map[string]bool{"KeepLast": true, "NotReady": false} {
		It("is left alone, and its endpoint is treated by the policy "+policy, func(ctx SpecContext) {
			w := newWorld(ctx)
			w.create(ctx, exposed, func(s *v1alpha1.ExternalServiceSpec) {
				s.Expose.OnUnreachable = policy
				s.Outputs = []v1alpha1.Output{{Name: "pid", Value: "${observed.pid}"}}
			})
			w.host.ClearJournal()
			before := w.find(ctx)
			w.host.Stop()
			w.untilReason(ctx, "Unknown/HostUnreachable")
			Expect(w.reason(ctx, v1alpha1.HealthyCondition)).To(Equal("Unknown/HostUnreachable"))
			Expect(w.reason(ctx, v1alpha1.HostReachableCondition)).To(Equal("False/HostUnreachable"))
			Expect(w.endpointReady(ctx)).To(Equal(admitted))
			Expect(w.find(ctx).Status.Outputs).To(Equal(before.Status.Outputs))

			w.setContent(ctx, "port=2\n")
			w.until(ctx, "the new spec is seen", func() bool {
				object := w.find(ctx)
				return object.Status.ObservedGeneration == object.Generation
			})
			w.operator.forgetWrites()
			w.begin() // a new process finds it unreachable as well
			for range 20 {
				w.pass(ctx)
			}
			Expect(w.operator.written()).To(BeEmpty())
			Expect(w.endpointReady(ctx)).To(Equal(admitted))
			Expect(w.host.Journal()).To(BeEmpty())
			Expect(w.recorder.count("HostUnreachable")).To(Equal(1))

			w.host.Resume()
			w.begin()
			w.until(ctx, "Ready", w.ready(ctx))
			Expect(w.recorder.count("HostRecovered")).To(Equal(1))
			Expect(w.endpointReady(ctx)).To(BeTrue())
			Expect(w.host.Journal()).To(Equal([]string{"put /etc/ledger.conf", "restart systemd/ledger.service"}))
		})
	}

	It("that refuses us is said to be not ready", func(ctx SpecContext) {
		w := newWorld(ctx)
		w.operator.end()
		w.host.SetPassword("secret")
		before := w.host.Logins()
		w.begin()
		w.declare(ctx)
		w.untilReason(ctx, "Unknown/HostNotReady")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("CredentialsRefused"))
		Expect(w.host.Logins() - before).To(Equal(1))
	})

	It("is given a minute for its first answer", func(ctx SpecContext) {
		w := newWorld(ctx)
		w.create(ctx)
		w.begin()
		w.operator.fleet.Remove(w.hostKey) // no link is configured: the Secret may be missing
		w.pass(ctx)
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("True/Succeeded"))
		w.clock.forward(2 * time.Minute)
		w.untilReason(ctx, "Unknown/HostNotReady")
	})
})
