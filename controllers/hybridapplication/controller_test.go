package hybridapplication

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
)

// webshop has three levels: a service outside, a Deployment that is told where
// it is, and a ConfigMap that waits for that.
const webshop = `
components:
- name: ledger
  external:
    hostRef: {name: db1}
    systemd: {unit: ledger.service}
    outputs: [{name: url, value: "tcp://db1:5432"}]
- name: web
  manifest:
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, labels: {tier: front}}
    spec:
      replicas: 2
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          containers:
          - name: web
            image: localhost/web:1
            env: [{name: LEDGER, value: "${components.ledger.status.outputs.url}"}]
- name: facts
  dependsOn: [web]
  manifest:
    apiVersion: v1
    kind: ConfigMap
    data: {replicas: "${string(components.web.status.readyReplicas)}", home: "$${HOME}"}
outputs: {ledger: "${components.ledger.status.outputs.url}"}
`

// configMap is a component with a ConfigMap.
func configMap(name, more string) string {
	return fmt.Sprintf("{name: %s, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: %q}}%s}", name, name, more)
}

func components(all ...string) string { return "components: [" + strings.Join(all, ",\n") + "]" }

var _ = Describe("HybridApplication", func() {
	var h *harness
	BeforeEach(func(ctx SpecContext) { h = newHarness(GinkgoT().Context()) })

	ledgerReady := func() {
		h.external("shop-ledger", condition.Ready, v1alpha1.ReasonSucceeded, map[string]string{"url": "tcp://db1:5432"})
	}
	shopReady := func() types.NamespacedName {
		key := h.create("shop", webshop)
		h.settle(key)
		ledgerReady()
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			g.Expect(h.exists(&appsv1.Deployment{}, "web")).To(BeTrue())
		})
		h.rollOut("web")
		h.untilReady(key)
		h.settle(key)
		return key
	}

	It("applies components in order and lets values flow", func() {
		key := h.create("shop", webshop)
		h.settle(key)
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("Unknown ComponentsNotReady"))
		Expect(condition.IsTrue(app.Status.Conditions, v1alpha1.GraphAcceptedCondition)).To(BeTrue())
		Expect(rowOf(app, "web").State).To(Equal(stateWaiting))
		Expect(rowOf(app, "web").BlockedBy).To(Equal([]string{"ledger"}))
		Expect(rowOf(app, "facts").BlockedBy).To(Equal([]string{"web"}))
		Expect(h.exists(&v1alpha1.ExternalService{}, "shop-ledger")).To(BeTrue())
		Expect(h.exists(&appsv1.Deployment{}, "web")).To(BeFalse())

		ledgerReady()
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			g.Expect(rowOf(app, "web").State).To(Equal(stateApplied))
		})
		deployment := &appsv1.Deployment{}
		Expect(h.exists(deployment, "web")).To(BeTrue())
		Expect(deployment.Spec.Template.Spec.Containers[0].Env[0].Value).To(Equal("tcp://db1:5432"))
		Expect(deployment.Labels).To(HaveKeyWithValue("app.kubernetes.io/managed-by", "isthmus"))
		Expect(deployment.Labels).To(HaveKey("applyset.kubernetes.io/part-of"))
		Expect(deployment.ManagedFields[0].Manager).To(Equal("isthmus"))
		Expect(h.exists(&corev1.ConfigMap{}, "shop-facts")).To(BeFalse())

		h.rollOut("web")
		h.untilReady(key)
		facts := &corev1.ConfigMap{}
		Expect(h.exists(facts, "shop-facts")).To(BeTrue())
		Expect(facts.Data).To(Equal(map[string]string{"replicas": "2", "home": "${HOME}"}))
		app = h.app(key)
		Expect(app.Status.ReadyComponents).To(Equal("3/3"))
		Expect(app.Status.Outputs).To(Equal(map[string]string{"ledger": "tcp://db1:5432"}))
		Expect(app.Status.ObservedGeneration).To(Equal(app.Generation))
		Expect(app.Status.Inventory).To(HaveLen(3))
		for i, e := range app.Status.Inventory {
			Expect(e.UID).NotTo(BeEmpty())
			Expect(e.Order).To(BeEquivalentTo(i))
		}
	})

	It("writes nothing and tells nothing when nothing changed", func() {
		key := shopReady()
		told := len(h.eventReasons())
		h.wire.failNext(0, beforeEffect)
		for range 3 {
			_, err := h.pass(key)
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(h.wire.takeWrites()).To(BeEmpty())
		Expect(h.wire.count()).To(Equal(3), "a pass reads its application, and the rest from its watches")
		By("and a new operator neither")
		h.restart()
		for range 3 {
			_, err := h.pass(key)
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(h.wire.takeWrites()).To(BeEmpty())
		Expect(h.eventReasons()).To(HaveLen(told))
	})

	It("tells once about each thing that happened", func() {
		shopReady()
		lines := strings.Join(h.eventReasons(), "\n")
		for _, want := range []string{"Created created ExternalService shop-ledger", "Created created Deployment web", "Created created ConfigMap shop-facts", "Succeeded"} {
			Expect(strings.Count(lines, want)).To(Equal(1), "%s in\n%s", want, lines)
		}
		Expect(h.told).To(HaveLen(4), lines)
	})

	DescribeTable("refuses a graph before anything is applied, and names what is wrong",
		func(spec, reason string, words ...string) {
			key := h.create("bad", spec)
			h.settle(key)
			app := h.app(key)
			Expect(readyOf(app)).To(Equal("False " + reason))
			Expect(condition.IsTrue(app.Status.Conditions, v1alpha1.StalledCondition)).To(BeTrue())
			accepted := condition.Get(app.Status.Conditions, v1alpha1.GraphAcceptedCondition)
			Expect(accepted.Status).To(Equal(metav1.ConditionFalse))
			for _, word := range words {
				Expect(accepted.Message).To(ContainSubstring(word))
			}
			Expect(app.Status.Inventory).To(BeEmpty())
			maps := &corev1.ConfigMapList{}
			Expect(admin.List(h.ctx, maps, client.InNamespace(h.namespace), client.MatchingLabels{"app.kubernetes.io/managed-by": "isthmus"})).To(Succeed())
			Expect(maps.Items).To(BeEmpty())
			h.delete(key)
			h.untilGone(key)
		},
		Entry("a cycle", components(configMap("fine", ""), configMap("a", ", dependsOn: [b]"), configMap("b", ", dependsOn: [a]")),
			v1alpha1.ReasonCycle, "a → b → a"),
		Entry("an unknown component", components(configMap("fine", ""), configMap("orders", ", dependsOn: [fien]")),
			v1alpha1.ReasonUnknownReference, `component "orders"`, `did you mean "fine"?`),
		Entry("a bad expression", components(configMap("fine", ""), `{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {k: "x${components.fine.}"}}}`),
			v1alpha1.ReasonInvalidExpression, `component "a", manifest.data.k`, "column 20"),
		Entry("an unknown field in an expression", components(configMap("fine", ""), `{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {k: "${components.fine.dtaa.x}"}}}`),
			v1alpha1.ReasonUnknownReference, `component "a", manifest.data.k`, "column", `did you mean "data"?`),
		Entry("an unknown field in a manifest", components(configMap("fine", ""), `{name: a, manifest: {apiVersion: apps/v1, kind: Deployment, spec: {replica: 1}}}`),
			v1alpha1.ReasonInvalidManifest, `component "a", manifest.spec.replica`, `did you mean "replicas"?`),
		Entry("an unknown field in an external spec", components(configMap("fine", ""), `{name: a, external: {hostRef: {name: h}, systemd: {unti: x.service}}}`),
			v1alpha1.ReasonInvalidManifest, `component "a", external.systemd.unti`, `did you mean "unit"?`),
		Entry("a wrong type", components(configMap("fine", ""), `{name: a, manifest: {apiVersion: apps/v1, kind: Deployment, spec: {replicas: "${components.fine.metadata.name}"}}}`),
			v1alpha1.ReasonInvalidExpression, "gives string", "takes integer"),
		Entry("another namespace", components(configMap("fine", ""), `{name: a, manifest: {apiVersion: v1, kind: ConfigMap, metadata: {namespace: kube-system}}}`),
			v1alpha1.ReasonInvalidManifest, "manifest.metadata.namespace", "kube-system"),
	)

	It("leaves what runs alone when an edit is wrong", func() {
		key := shopReady()
		before := &appsv1.Deployment{}
		Expect(h.exists(before, "web")).To(BeTrue())
		h.edit(key, strings.Replace(webshop, "replicas: 2", "replica: 3", 1))
		h.settle(key)
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("False InvalidManifest"))
		Expect(app.Status.Inventory).To(HaveLen(3))
		after := &appsv1.Deployment{}
		Expect(h.exists(after, "web")).To(BeTrue())
		Expect(after.ResourceVersion).To(Equal(before.ResourceVersion))
		By("and deletes by what was recorded, although the spec is invalid")
		h.delete(key)
		h.untilGone(key)
		Expect(h.exists(&appsv1.Deployment{}, "web")).To(BeFalse())
	})

	It("can do no more than its ServiceAccount", func() {
		h.grant("reader", []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "watch"}}})
		key := h.create("poor", "serviceAccountName: reader\n"+components(configMap("a", "")))
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) { g.Expect(readyOf(app)).To(Equal("False Forbidden")) })
		app := h.app(key)
		Expect(messageOf(app)).To(ContainSubstring("ServiceAccount " + h.namespace + "/reader may not patch configmaps (ConfigMap poor-a)"))
		Expect(rowOf(app, "a").State).To(Equal(stateFailed))
		Expect(app.Status.Inventory).To(BeEmpty())
		Expect(h.exists(&corev1.ConfigMap{}, "poor-a")).To(BeFalse())
		result, err := h.pass(key)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.RequeueAfter).To(BeNumerically(">", 0))
		By("and the operator itself may not either")
		own, err := client.New(operator, client.Options{Scheme: scheme})
		Expect(err).NotTo(HaveOccurred())
		Expect(own.Get(h.ctx, types.NamespacedName{Namespace: h.namespace, Name: "x"}, &corev1.ConfigMap{})).To(MatchError(ContainSubstring("forbidden")))
		h.delete(key)
		h.untilGone(key)
	})

	It("corrects what somebody changed, once", func() {
		key := shopReady()
		facts := &corev1.ConfigMap{}
		Expect(h.exists(facts, "shop-facts")).To(BeTrue())
		facts.Data["replicas"] = "99"
		facts.Data["theirs"] = "kept"
		Expect(admin.Update(h.ctx, facts)).To(Succeed())
		h.until(key, func(g Gomega, _ *v1alpha1.HybridApplication) {
			g.Expect(h.exists(facts, "shop-facts")).To(BeTrue())
			g.Expect(facts.Data).To(HaveKeyWithValue("replicas", "2"))
		})
		h.settle(key)
		Expect(facts.Data).To(HaveKeyWithValue("theirs", "kept"))
		Expect(strings.Count(strings.Join(h.eventReasons(), "\n"), "Corrected corrected ConfigMap shop-facts")).To(Equal(1))
	})

	It("makes anew what somebody deleted", func() {
		key := shopReady()
		Expect(admin.Delete(h.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "shop-facts", Namespace: h.namespace}})).To(Succeed())
		h.until(key, func(g Gomega, _ *v1alpha1.HybridApplication) {
			g.Expect(h.exists(&corev1.ConfigMap{}, "shop-facts")).To(BeTrue())
		})
		h.untilReady(key)
	})

	It("removes fields that left the manifest", func() {
		key := h.create("app", `components: [{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "1", y: "2"}}}]`)
		h.untilReady(key)
		h.edit(key, `components: [{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "1"}}}]`)
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			object := &corev1.ConfigMap{}
			g.Expect(h.exists(object, "app-a")).To(BeTrue())
			g.Expect(object.Data).To(Equal(map[string]string{"x": "1"}))
			g.Expect(app.Status.ObservedGeneration).To(Equal(app.Generation))
		})
	})

	It("prunes what left the graph once the rest is ready, and keeps orphans", func() {
		key := h.create("app", components(configMap("a", ""), configMap("b", ", dependsOn: [a]"), configMap("kept", ", deletionPolicy: Orphan")))
		h.untilReady(key)
		h.edit(key, components(configMap("a", ""), `{name: slow, external: {hostRef: {name: h}, systemd: {unit: x.service}}}`))
		h.settle(key)
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("Unknown ComponentsNotReady"))
		Expect(h.exists(&corev1.ConfigMap{}, "app-b")).To(BeTrue(), "the new part is not ready")
		h.external("app-slow", condition.Ready, v1alpha1.ReasonSucceeded, nil)
		h.untilReady(key)
		Expect(h.exists(&corev1.ConfigMap{}, "app-b")).To(BeFalse())
		Expect(h.exists(&corev1.ConfigMap{}, "app-kept")).To(BeTrue())
		Expect(h.app(key).Status.Inventory).To(HaveLen(2))
	})

	It("deletes in reverse order, each when those after it are gone", func() {
		key := shopReady()
		facts := &corev1.ConfigMap{}
		Expect(h.exists(facts, "shop-facts")).To(BeTrue())
		facts.Finalizers = []string{"example.com/hold"}
		Expect(admin.Update(h.ctx, facts)).To(Succeed())
		h.settle(key)
		h.delete(key)
		h.settle(key)
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("Unknown Deleting"))
		Expect(messageOf(app)).To(Equal("left: ExternalService shop-ledger, Deployment web, ConfigMap shop-facts"))
		deployment := &appsv1.Deployment{}
		Expect(h.exists(deployment, "web")).To(BeTrue())
		Expect(deployment.DeletionTimestamp).To(BeNil())

		Expect(h.exists(facts, "shop-facts")).To(BeTrue())
		facts.Finalizers = nil
		Expect(admin.Update(h.ctx, facts)).To(Succeed())
		h.untilGone(key)
		Expect(h.exists(&appsv1.Deployment{}, "web")).To(BeFalse())
		Expect(h.exists(&v1alpha1.ExternalService{}, "shop-ledger")).To(BeFalse())
	})

	It("says what is left when it may not delete, and goes on with another ServiceAccount", func() {
		key := h.create("app", components(configMap("a", ""), configMap("b", "")))
		h.untilReady(key)
		h.revoke("deployer")
		h.delete(key)
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) { g.Expect(readyOf(app)).To(Equal("False Forbidden")) })
		Expect(messageOf(h.app(key))).To(SatisfyAll(ContainSubstring("left: ConfigMap app-a, ConfigMap app-b"),
			ContainSubstring("deployer may not"), ContainSubstring("isthmus.dev/finalizer")))
		h.grant("second", memberRules)
		app := h.app(key)
		app.Spec.ServiceAccountName = "second"
		Expect(admin.Update(h.ctx, app)).To(Succeed())
		h.untilGone(key)
		Expect(h.exists(&corev1.ConfigMap{}, "app-a")).To(BeFalse())
	})

	It("spares an object that was made anew by somebody else", func() {
		key := h.create("app", components(configMap("a", "")))
		h.untilReady(key)
		Expect(admin.Delete(h.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app-a", Namespace: h.namespace}})).To(Succeed())
		Expect(admin.Create(h.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app-a", Namespace: h.namespace}})).To(Succeed())
		h.delete(key)
		h.untilGone(key)
		Expect(h.exists(&corev1.ConfigMap{}, "app-a")).To(BeTrue())
	})

	It("refuses to take over what is not ours", func() {
		theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app-a", Namespace: h.namespace,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}}, Data: map[string]string{"x": "theirs"}}
		Expect(admin.Create(h.ctx, theirs)).To(Succeed())
		key := h.create("app", components(configMap("a", ""), configMap("b", ", dependsOn: [a]")))
		h.settle(key)
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("False ApplyFailed"))
		Expect(messageOf(app)).To(ContainSubstring("ConfigMap app-a exists already and it is managed by Helm"))
		Expect(rowOf(app, "b").State).To(Equal(stateWaiting))
		after := &corev1.ConfigMap{}
		Expect(h.exists(after, "app-a")).To(BeTrue())
		Expect(after.ResourceVersion).To(Equal(theirs.ResourceVersion))
		h.delete(key)
		h.untilGone(key)
		Expect(h.exists(after, "app-a")).To(BeTrue())
	})

	It("does nothing while suspended but delete", func() {
		key := h.create("app", "suspend: true\n"+components(configMap("a", "")))
		h.settle(key)
		Expect(readyOf(h.app(key))).To(Equal("Unknown Suspended"))
		Expect(h.exists(&corev1.ConfigMap{}, "app-a")).To(BeFalse())
		h.edit(key, components(configMap("a", "")))
		h.untilReady(key)
		h.edit(key, "suspend: true\n"+components(configMap("b", "")))
		h.settle(key)
		Expect(h.exists(&corev1.ConfigMap{}, "app-a")).To(BeTrue())
		h.delete(key)
		h.untilGone(key)
		Expect(h.exists(&corev1.ConfigMap{}, "app-a")).To(BeFalse())
	})

	It("touches nothing behind a host that does not answer", func() {
		key := shopReady()
		h.external("shop-ledger", condition.Unknown, v1alpha1.ReasonHostUnreachable, nil)
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			g.Expect(readyOf(app)).To(Equal("Unknown ComponentUnknown"))
		})
		h.settle(key)
		app := h.app(key)
		Expect(condition.Get(app.Status.Conditions, v1alpha1.ReconcilingCondition)).To(BeNil())
		Expect(rowOf(app, "ledger").State).To(Equal(stateUnknown))
		Expect(app.Status.Outputs).To(Equal(map[string]string{"ledger": "tcp://db1:5432"}), "the last value is kept")
		before := &appsv1.Deployment{}
		Expect(h.exists(before, "web")).To(BeTrue())

		By("even if the application is edited, or an object behind it")
		facts := &corev1.ConfigMap{}
		Expect(h.exists(facts, "shop-facts")).To(BeTrue())
		facts.Data["replicas"] = "99"
		Expect(admin.Update(h.ctx, facts)).To(Succeed())
		h.edit(key, strings.Replace(strings.Replace(webshop, "replicas: 2", "replicas: 5", 1), "- name: facts\n  dependsOn: [web]", "- name: facts2\n  dependsOn: [web]", 1))
		h.settle(key)
		Expect(readyOf(h.app(key))).To(Equal("Unknown ComponentUnknown"))
		after := &appsv1.Deployment{}
		Expect(h.exists(after, "web")).To(BeTrue())
		Expect(after.ResourceVersion).To(Equal(before.ResourceVersion))
		Expect(h.exists(facts, "shop-facts")).To(BeTrue(), "nothing is pruned")
		Expect(h.exists(facts, "shop-facts2")).To(BeFalse())

		By("and goes on when the host answers again")
		ledgerReady()
		h.until(key, func(g Gomega, _ *v1alpha1.HybridApplication) {
			g.Expect(h.exists(after, "web")).To(BeTrue())
			g.Expect(*after.Spec.Replicas).To(BeEquivalentTo(5))
		})
		h.rollOut("web")
		h.untilReady(key)
		Expect(h.exists(facts, "shop-facts")).To(BeFalse())
	})

	It("stalls when a component needs a person", func() {
		key := h.create("shop", webshop)
		h.settle(key)
		h.external("shop-ledger", condition.Stalled, v1alpha1.ReasonNotOurs, nil)
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			g.Expect(readyOf(app)).To(Equal("False ComponentFailed"))
		})
		Expect(messageOf(h.app(key))).To(ContainSubstring("ledger: says NotOurs"))
	})

	It("reads what it only refers to", func() {
		key := h.create("app", `{components: [{name: other, ref: {apiVersion: v1, kind: ConfigMap, name: theirs}},
			{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "${components.other.data.k}"}}}]}`)
		h.settle(key)
		Expect(rowOf(h.app(key), "other").Message).To(Equal("ConfigMap theirs does not exist yet"))
		theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Namespace: h.namespace}, Data: map[string]string{"k": "v1"}}
		Expect(admin.Create(h.ctx, theirs)).To(Succeed())
		h.untilReady(key)
		theirs.Data["k"] = "v2"
		Expect(admin.Update(h.ctx, theirs)).To(Succeed())
		h.until(key, func(g Gomega, _ *v1alpha1.HybridApplication) {
			object := &corev1.ConfigMap{}
			g.Expect(h.exists(object, "app-a")).To(BeTrue())
			g.Expect(object.Data).To(HaveKeyWithValue("x", "v2"))
		})
		h.delete(key)
		h.untilGone(key)
		Expect(h.exists(theirs, "theirs")).To(BeTrue())
	})

	It("holds readyWhen to be the component's own word", func() {
		key := h.create("app", components(configMap("a", `, readyWhen: ["self.data.x == 'go'"]`), configMap("b", ", dependsOn: [a]")))
		h.settle(key)
		Expect(rowOf(h.app(key), "a").Message).To(Equal("not ready until self.data.x == 'go'"))
		Expect(h.exists(&corev1.ConfigMap{}, "app-b")).To(BeFalse())
		h.edit(key, components(strings.Replace(configMap("a", `, readyWhen: ["self.data.x == 'go'"]`), `x: "a"`, `x: "go"`, 1), configMap("b", ", dependsOn: [a]")))
		h.untilReady(key)
	})

	It("answers a request for a pass", func() {
		key := h.create("app", components(configMap("a", "")))
		h.untilReady(key)
		app := h.app(key)
		app.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "now-1"}
		Expect(admin.Update(h.ctx, app)).To(Succeed())
		h.settle(key)
		Expect(h.app(key).Status.LastHandledReconcileAt).To(Equal("now-1"))
	})

	It("waits for a kind that the cluster does not know", func() {
		key := h.create("app", components(configMap("a", ""), `{name: thing, manifest: {apiVersion: example.com/v1, kind: Thing, spec: {x: "${components.a.metadata.name}"}}}`))
		h.settle(key)
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("Unknown ComponentsNotReady"))
		Expect(rowOf(app, "a").State).To(Equal(stateReady))
		Expect(rowOf(app, "thing").Message).To(ContainSubstring("does not know the kind Thing in example.com/v1"))
		result, err := h.pass(key)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.RequeueAfter).To(BeNumerically("~", afterUnknownKind, 5*time.Second))
	})

	It("polls when the ServiceAccount may not watch", func() {
		h.grant("blind", []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "patch", "delete"}}})
		key := h.create("app", "serviceAccountName: blind\n"+components(configMap("a", "")))
		h.untilReady(key)
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			g.Expect(rowOf(app, "a").Message).To(Equal("polled, because ServiceAccount " + h.namespace + "/blind cannot watch ConfigMap"))
		})
		result, err := h.pass(key)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.RequeueAfter).To(BeNumerically("~", afterUnwatched, 10*time.Second))
		object := &corev1.ConfigMap{}
		Expect(h.exists(object, "app-a")).To(BeTrue())
		object.Data["x"] = "changed"
		Expect(admin.Update(h.ctx, object)).To(Succeed())
		_, err = h.pass(key)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.exists(object, "app-a")).To(BeTrue())
		Expect(object.Data).To(HaveKeyWithValue("x", "a"))
		h.settle(key)
	})

	It("builds a lost status anew and touches nothing", func() {
		key := shopReady()
		before := h.app(key).Status
		app := h.app(key)
		app.Status = v1alpha1.HybridApplicationStatus{}
		Expect(admin.Status().Update(h.ctx, app)).To(Succeed())
		deployment := &appsv1.Deployment{}
		Expect(h.exists(deployment, "web")).To(BeTrue())
		h.untilReady(key)
		after := h.app(key).Status
		Expect(after.Outputs).To(Equal(before.Outputs))
		Expect(after.Inventory).To(HaveLen(3))
		for i := range after.Inventory {
			Expect(after.Inventory[i].UID).To(Equal(before.Inventory[i].UID))
		}
		version := deployment.ResourceVersion
		Expect(h.exists(deployment, "web")).To(BeTrue())
		Expect(deployment.ResourceVersion).To(Equal(version))
	})

	It("makes objects of the cluster as far as the ServiceAccount may", func() {
		name := h.namespace + "-class"
		spec := components(`{name: class, manifest: {apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: ` + name + `}, value: 7}}`)
		key := h.create("app", spec)
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) { g.Expect(readyOf(app)).To(Equal("False Forbidden")) })
		Expect(messageOf(h.app(key))).To(ContainSubstring("may not get priorityclasses.scheduling.k8s.io"))

		role := metav1.ObjectMeta{Name: name}
		Expect(admin.Create(h.ctx, &rbacv1.ClusterRole{ObjectMeta: role, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"scheduling.k8s.io"},
			Resources: []string{"priorityclasses"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}}}})).To(Succeed())
		Expect(admin.Create(h.ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: role, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "deployer", Namespace: h.namespace}}})).To(Succeed())
		h.untilReady(key)
		class := &schedulingv1.PriorityClass{}
		Expect(admin.Get(h.ctx, types.NamespacedName{Name: name}, class)).To(Succeed())
		Expect(h.app(key).Status.Inventory[0].Namespace).To(BeEmpty())
		h.delete(key)
		h.untilGone(key)
		Expect(admin.Get(h.ctx, types.NamespacedName{Name: name}, class)).NotTo(Succeed())
	})

	It("is woken by its objects when it runs in a manager", func(ctx SpecContext) {
		mgr, err := ctrl.NewManager(operator, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
		Expect(err).NotTo(HaveOccurred())
		h.r.Client = mgr.GetClient()
		Expect(h.r.SetupWithManager(mgr, Options{Changes: h.cluster})).To(Succeed())
		done := make(chan error, 1)
		running, stop := contextWithStop()
		go func() { done <- mgr.Start(running) }()
		DeferCleanup(func() { stop(); Expect(<-done).To(Succeed()) })

		key := h.create("shop", webshop)
		Eventually(func() bool { return h.exists(&v1alpha1.ExternalService{}, "shop-ledger") }).WithTimeout(10 * time.Second).Should(BeTrue())
		ledgerReady()
		Eventually(func() bool { return h.exists(&appsv1.Deployment{}, "web") }).WithTimeout(10 * time.Second).Should(BeTrue())
		h.rollOut("web")
		Eventually(func() string { return readyOf(h.app(key)) }).WithTimeout(10 * time.Second).Should(Equal("True Succeeded"))
		By("and corrects without being asked")
		facts := &corev1.ConfigMap{}
		Expect(h.exists(facts, "shop-facts")).To(BeTrue())
		facts.Data["replicas"] = "99"
		Expect(admin.Update(h.ctx, facts)).To(Succeed())
		Eventually(func() string { h.exists(facts, "shop-facts"); return facts.Data["replicas"] }).WithTimeout(10 * time.Second).Should(Equal("2"))
		h.delete(key)
		Eventually(func() bool { return h.exists(&v1alpha1.HybridApplication{}, "shop") }).WithTimeout(10 * time.Second).Should(BeFalse())
		Expect(h.exists(&appsv1.Deployment{}, "web")).To(BeFalse())
	}, NodeTimeout(time.Minute))
})
