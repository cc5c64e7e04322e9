package externalservice_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/externalservice"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
)

var _ = Describe("In a manager", func() {
	It("is woken by all that concerns it", func(ctx SpecContext) {
		w := newWorld(ctx)
		w.operator.end()
		mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
		Expect(err).NotTo(HaveOccurred())
		w.operator.fleet = fleet.New(fleet.Options{Connect: w.network.Connect, Kinds: []string{externalservice.Kind}})
		Expect(mgr.Add(w.operator.fleet)).To(Succeed())
		reconciler := &externalservice.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Secrets: credential.Reader{Reader: mgr.GetAPIReader()},
			Fleet: w.operator.fleet, Jobs: w.operator.fleet, Cluster: "cluster-1", Recorder: w.recorder, Clock: w.clock,
		}
		Expect(reconciler.SetupWithManager(ctx, mgr, w.operator.fleet.Events(externalservice.Kind))).To(Succeed())
		running, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- mgr.Start(running) }()
		DeferCleanup(func() {
			stop()
			Eventually(ended).WithTimeout(patience).Should(Receive(BeNil()))
		})
		eventually := func(what string, holds func() bool) {
			GinkgoHelper()
			Eventually(holds).WithTimeout(patience).WithPolling(10*time.Millisecond).Should(BeTrue(), what)
		}

		w.declare(ctx, exposed, func(s *v1alpha1.ExternalServiceSpec) {
			s.Files = append(s.Files, v1alpha1.File{Path: "/etc/a", ContentFrom: &v1alpha1.ContentSource{
				ConfigMapKeyRef: &v1alpha1.KeyReference{Name: "late", Key: "a"},
			}})
		})
		eventually("the missing ConfigMap is named", func() bool { return w.reason(ctx, v1alpha1.ReadyCondition) == "Unknown/ReferenceNotFound" })
		late := &corev1.ConfigMap{Data: map[string]string{"a": "1"}}
		late.Namespace, late.Name = w.namespace, "late"
		Expect(live.Create(ctx, late)).To(Succeed())
		w.operator.connect()
		eventually("created", w.ready(ctx))

		late.Data["a"] = "2"
		Expect(live.Update(ctx, late)).To(Succeed())
		eventually("a changed ConfigMap", func() bool { content, _ := w.host.Content("/etc/a"); return content == "2" })
		eventually("ready again", w.ready(ctx))

		w.host.Put(config1, fleettest.File{Content: []byte("evil")})
		eventually("drift", func() bool { return hasContent(w, "port=1\n") })
		eventually("ready again", w.ready(ctx))

		service := &corev1.Service{}
		Expect(live.Get(ctx, w.key, service)).To(Succeed())
		Expect(live.Delete(ctx, service)).To(Succeed())
		eventually("a deleted Service", func() bool { return live.Get(ctx, w.key, service) == nil })

		w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.AllowedNamespaces.From = "All"; h.Spec.Maintenance.Enabled = true })
		w.host.Kill(ledgerUnit)
		eventually("maintenance", func() bool { return w.reason(ctx, v1alpha1.DriftedCondition) == "True/DriftDetected" })
		w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.Maintenance.Enabled = false })
		eventually("the end of maintenance", w.ready(ctx))
		eventually("in sync", func() bool { return w.reason(ctx, v1alpha1.DriftedCondition) == "False/InSync" })

		before := w.find(ctx).ResourceVersion
		looks := w.host.Observations()
		eventually("a few looks at the host", func() bool { return w.host.Observations() > looks+2 })
		Expect(w.find(ctx).ResourceVersion).To(Equal(before), "an unchanged host costs no write")

		w.host.Stop()
		eventually("unreachable", func() bool { return w.reason(ctx, v1alpha1.ReadyCondition) == "Unknown/HostUnreachable" })
		w.host.Resume()
		eventually("reachable", w.ready(ctx))
		Expect(live.Delete(ctx, w.find(ctx), client.PropagationPolicy("Background"))).To(Succeed())
		eventually("deleted", w.gone(ctx))
		_, there := w.host.Content(config1)
		Expect(there).To(BeFalse())
	})
})
