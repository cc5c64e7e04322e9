package externalservice_test

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

var _ = Describe("Keeping a service as declared", func() {
	var w *world
	BeforeEach(func(ctx SpecContext) { w = newWorld(ctx) })

	It("creates it in order, says so, and then writes nothing", func(ctx SpecContext) {
		w.create(ctx)
		Expect(w.host.Journal()).To(Equal(created))
		status := w.find(ctx).Status
		Expect(status.Inventory).To(HaveLen(2))
		Expect(status.Execution).To(BeNil())
		Expect(status.Observed.State).To(Equal("Running"))
		Expect(status.LastAppliedHash).To(HaveLen(64))
		Expect(status.History).To(HaveLen(1))
		Expect(w.reason(ctx, v1alpha1.HealthyCondition)).To(Equal("True/Healthy"))
		Expect(w.recorder.count("JobRequested")).To(Equal(1))
		Expect(w.recorder.count("JobSucceeded")).To(Equal(1))
		Expect(w.recorder.all()).To(ContainElement(ContainSubstring("state: Absent -> Running")))

		w.operator.forgetWrites()
		looks := w.host.Observations()
		w.until(ctx, "several looks at the host, and no receipt left there", func() bool {
			return w.host.Observations() > looks+2 && len(w.host.Jobs()) == 0
		})
		Expect(w.operator.written()).To(BeEmpty())
		Expect(w.recorder.all()).To(HaveLen(2))
	})

	It("corrects drift, once, and says so", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.host.Put(config1, fleettest.File{Content: []byte("port=666\n")})
		w.until(ctx, "correction", func() bool { return w.host.Effects("restart") > 0 })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"put /etc/ledger.conf", "restart systemd/ledger.service"}))
		Expect(w.recorder.count("DriftDetected")).To(Equal(1))
		Expect(w.find(ctx).Status.Corrections).To(HaveLen(1))
		Expect(w.find(ctx).Status.Drift).To(BeEmpty())
		Expect(w.reason(ctx, v1alpha1.DriftedCondition)).To(Equal("False/InSync"))
	})

	It("only reports drift if asked to, and still carries out the spec", func(ctx SpecContext) {
		w.create(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.DriftPolicy = v1alpha1.DriftReport })
		w.host.ClearJournal()
		w.host.Kill(ledgerUnit)
		w.untilReason(ctx, "False/DriftDetected")
		Expect(w.reason(ctx, v1alpha1.DriftedCondition)).To(Equal("True/DriftDetected"))
		Expect(w.find(ctx).Status.Drift).To(ConsistOf(v1alpha1.Difference{Path: "state", Desired: "Running", Observed: "Failed"}))
		Expect(w.host.Journal()).To(BeEmpty())
		w.setContent(ctx, "port=2\n")
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"put /etc/ledger.conf", "start systemd/ledger.service"}))
	})

	It("restarts once for what changed in a ConfigMap and a Secret", func(ctx SpecContext) {
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "config"}, Data: map[string]string{"a": "1"}}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "secret"}, StringData: map[string]string{"p": "hunter-two"}}
		Expect(live.Create(ctx, configMap)).To(Succeed())
		w.declare(ctx, func(s *v1alpha1.ExternalServiceSpec) {
			s.Files = []v1alpha1.File{
				{Path: "/etc/a", RestartOnChange: true, ContentFrom: &v1alpha1.ContentSource{ConfigMapKeyRef: &v1alpha1.KeyReference{Name: "config", Key: "a"}}},
				{Path: "/etc/p", RestartOnChange: true, ContentFrom: &v1alpha1.ContentSource{SecretKeyRef: &v1alpha1.KeyReference{Name: "secret", Key: "p"}}},
			}
		})
		w.untilReason(ctx, "Unknown/ReferenceNotFound")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("spec.files[/etc/p]"))
		Expect(live.Create(ctx, secret)).To(Succeed())
		w.until(ctx, "Ready", w.ready(ctx))
		result, err := w.tryPass(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.RequeueAfter).To(And(BeNumerically(">=", time.Second), BeNumerically("<", 2*time.Second)), "a Secret is read again every interval")

		w.host.ClearJournal()
		configMap.Data["a"], secret.StringData = "2", map[string]string{"p": "hunter-three"}
		Expect(live.Update(ctx, configMap)).To(Succeed())
		Expect(live.Update(ctx, secret)).To(Succeed())
		w.until(ctx, "restart", func() bool { return w.host.Effects("restart") > 0 })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"put /etc/a", "put /etc/p", "restart systemd/ledger.service"}))
		Expect(strings.Join(w.recorder.all(), "\n") + w.describe(ctx)).NotTo(ContainSubstring("hunter"))
		object := w.find(ctx)
		Expect(object.Status.History[0].Reason).To(Equal("Update"))
	})

	It("refuses what is not ours until told to adopt it", func(ctx SpecContext) {
		w.host.Put(config1, fleettest.File{Content: []byte("theirs")})
		w.declare(ctx)
		w.untilReason(ctx, "False/NotOurs")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(ContainSubstring(config1), ContainSubstring("spec.adoption")))
		Expect(w.host.Journal()).To(BeEmpty())
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Adoption = v1alpha1.AdoptionAdopt })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal(created))
		Expect(w.recorder.count("Notice")).To(Equal(1))
	})

	It("never takes over what belongs to another", func(ctx SpecContext) {
		w.host.SetMark(ledgerUnit.Subject(), machine.MarkState{Exists: true, Owner: machine.Owner{Cluster: "cluster-2", UID: "u", Object: "x/theirs"}})
		w.declare(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.Adoption = v1alpha1.AdoptionAdopt })
		w.untilReason(ctx, "False/NotOurs")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("x/theirs"))
		Expect(w.host.Journal()).To(BeEmpty())
	})

	It("removes what is no longer declared", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Files = nil })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"restart systemd/ledger.service", "remove /etc/ledger.conf", "release file//etc/ledger.conf"}))
		Expect(w.find(ctx).Status.Inventory).To(HaveLen(1))
	})

	It("repeats what failed with a back-off, and at once when the spec changes", func(ctx SpecContext) {
		w.host.FailStart(ledgerUnit, "no such user at 10:11:12")
		w.declare(ctx)
		w.untilReason(ctx, "Unknown/ProgressingWithRetry")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("no such user"))
		Expect(w.recorder.count("JobFailed")).To(Equal(1))
		execution := w.find(ctx).Status.Execution
		Expect(execution.RetryAt.Sub(execution.StartedAt.Time)).To(BeNumerically("~", 10*time.Second, 3*time.Second))
		for range 5 {
			w.pass(ctx)
		}
		Expect(w.recorder.count("JobRequested")).To(Equal(1), "the back-off holds")

		w.clock.forward(15 * time.Second)
		w.until(ctx, "second attempt", func() bool { return w.recorder.count("JobFailed") == 2 })
		execution = w.find(ctx).Status.Execution
		Expect(execution.Attempt).To(BeEquivalentTo(2))
		Expect(execution.RetryAt.Sub(execution.StartedAt.Time)).To(BeNumerically("~", 20*time.Second, 3*time.Second))
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("Unknown/ProgressingWithRetry"))

		By("saying so when it does not pass")
		w.clock.forward(30 * time.Second)
		w.untilReason(ctx, "False/Failed")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("no such user"))
		Expect(condition.IsTrue(w.find(ctx).Status.Conditions, v1alpha1.StalledCondition)).To(BeFalse(), "it is tried again")

		w.host.FailStart(ledgerUnit, "")
		w.setContent(ctx, "port=2\n")
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.find(ctx).Status.Execution).To(BeNil())
	})

	It("stops fighting, and goes on when asked", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.until(ctx, "Fighting", func() bool {
			if state := w.host.Ask(machine.Unit{Name: ledgerUnit.Name}).(machine.UnitState); state.Active == "active" {
				w.host.Kill(ledgerUnit)
			}
			return w.reason(ctx, v1alpha1.ReadyCondition) == "False/Fighting"
		})
		Expect(w.host.Effects("start")).To(Equal(7))
		w.clock.forward(3 * time.Hour)
		for range 5 {
			w.pass(ctx)
		}
		Expect(w.host.Effects("start")).To(Equal(7), "time does not end it")
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			es.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "now"}
		})
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.find(ctx).Status.LastHandledReconcileAt).To(Equal("now"))
		Expect(w.find(ctx).Status.Corrections).To(HaveLen(1))
	})

	It("has no fight left when it was asked to look and finds nothing to do", func(ctx SpecContext) {
		w.create(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.Systemd = nil })
		spoil := func() { w.host.Put(config1, fleettest.File{Content: []byte("port=666\n")}) }
		w.until(ctx, "Fighting", func() bool {
			if content, _ := w.host.Content(config1); content == "port=1\n" {
				spoil()
			}
			return w.reason(ctx, v1alpha1.ReadyCondition) == "False/Fighting"
		})
		w.host.Put(config1, fleettest.File{Content: []byte("port=1\n")})
		w.until(ctx, "Ready", w.ready(ctx))
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			es.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "now"}
		})
		w.until(ctx, "an answer", func() bool { return w.find(ctx).Status.LastHandledReconcileAt == "now" })
		w.clock.forward(24 * time.Hour)
		w.host.ClearJournal()
		spoil()
		w.until(ctx, "correction", func() bool { return w.host.Effects("put") > 0 })
	})

	It("carries out a spec that changes while a job runs after that job", func(ctx SpecContext) {
		w.host.HoldJobs()
		w.declare(ctx)
		w.until(ctx, "Running", func() bool {
			execution := w.find(ctx).Status.Execution
			return execution != nil && execution.State == v1alpha1.ExecutionRunning
		})
		w.setContent(ctx, "port=2\n")
		for range 5 {
			w.pass(ctx)
		}
		Expect(w.host.Jobs()).To(HaveLen(1))
		w.host.FinishJobs()
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal(append(append([]string(nil), created...), "put /etc/ledger.conf", "restart systemd/ledger.service")))
	})

	It("says that a service which fails by itself is not healthy", func(ctx SpecContext) {
		w.create(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.State = v1alpha1.StateUnmanaged })
		w.host.ClearJournal()
		Expect(w.reason(ctx, v1alpha1.HealthyCondition)).To(Equal("False/NotHealthy"), "it was never started")
		w.host.Run(ledgerUnit)
		w.until(ctx, "healthy", func() bool { return w.reason(ctx, v1alpha1.HealthyCondition) == "True/Healthy" })
		Expect(w.host.Effects("st")).To(BeZero())
	})

	It("holds it stopped", func(ctx SpecContext) {
		w.create(ctx)
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.State = v1alpha1.StateStopped })
		w.untilReason(ctx, "True/Stopped")
		Expect(w.host.Effects("stop")).To(Equal(1))
	})

	It("changes nothing on a host in maintenance", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.Maintenance = v1alpha1.Maintenance{Enabled: true, Reason: "disk"} })
		w.host.Kill(ledgerUnit)
		w.until(ctx, "a word about maintenance", func() bool {
			return strings.Contains(w.message(ctx, v1alpha1.ReadyCondition), "Maintenance of the Host (disk)")
		})
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("True/Succeeded"), "Ready keeps")
		Expect(w.reason(ctx, v1alpha1.DriftedCondition)).To(Equal("True/DriftDetected"))
		w.setContent(ctx, "port=2\n")
		w.untilReason(ctx, "Unknown/Maintenance")
		Expect(w.host.Journal()).To(BeEmpty())
		w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.Maintenance = v1alpha1.Maintenance{} })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"put /etc/ledger.conf", "start systemd/ledger.service"}))
	})

	It("leaves a suspended object alone", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Suspend = true })
		w.untilReason(ctx, "Unknown/Suspended")
		w.host.Kill(ledgerUnit)
		for range 5 {
			w.pass(ctx)
		}
		Expect(w.host.Journal()).To(BeEmpty())
		Expect(w.operator.fleet.Users(w.hostKey)).To(BeEmpty())
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Suspend = false })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"start systemd/ledger.service"}))
	})

	It("says what part of the host cannot be looked at, and touches nothing", func(ctx SpecContext) {
		w.host.SetProblem(machine.Unit{Name: ledgerUnit.Name}, machine.Problem{Reason: "AccessDenied", Message: "sudo is not allowed"})
		w.declare(ctx)
		w.untilReason(ctx, "Unknown/ObservationFailed")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("sudo is not allowed"))
		Expect(w.host.Journal()).To(BeEmpty())
		w.host.SetProblem(machine.Unit{Name: ledgerUnit.Name}, machine.Problem{})
		w.until(ctx, "Ready", w.ready(ctx))
	})

	It("says that the receipt of its job cannot be read", func(ctx SpecContext) {
		w.host.HoldJobs()
		w.declare(ctx)
		w.untilReason(ctx, "Unknown/Applying")
		w.until(ctx, "the job", func() bool { return len(w.host.Jobs()) == 1 })
		receipt := machine.JobReceipt{ID: w.host.Jobs()[0]}
		w.host.SetProblem(receipt, machine.Problem{Reason: "AccessDenied", Message: "the state directory is closed"})
		w.untilReason(ctx, "Unknown/ObservationFailed")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("the state directory is closed"))
		w.host.SetProblem(receipt, machine.Problem{})
		w.host.FinishJobs()
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Jobs()).To(HaveLen(1))
	})

	It("says what is invalid", func(ctx SpecContext) {
		w.declare(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.Files[0].Path = "/etc//ledger.conf" })
		w.untilReason(ctx, "False/Invalid")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("write the path as /etc/ledger.conf"))
	})

	It("asks the Host for permission", func(ctx SpecContext) {
		home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "guest-"}}
		Expect(live.Create(ctx, home)).To(Succeed())
		w.key.Namespace = home.Name
		w.declare(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.HostRef.Namespace = w.namespace })
		w.untilReason(ctx, "False/HostNotAllowed")
		allow := func(rule v1alpha1.AllowedNamespaces) {
			w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.AllowedNamespaces = rule })
		}
		allow(v1alpha1.AllowedNamespaces{From: "Selector", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}}})
		w.untilReason(ctx, "False/HostNotAllowed")
		Expect(w.host.Journal()).To(BeEmpty())
		home.Labels = map[string]string{"team": "shop"}
		Expect(live.Update(ctx, home)).To(Succeed())
		w.until(ctx, "Ready", w.ready(ctx))
		allow(v1alpha1.AllowedNamespaces{From: "Same"})
		w.untilReason(ctx, "False/HostNotAllowed")
		allow(v1alpha1.AllowedNamespaces{From: "All"})
		w.until(ctx, "Ready", w.ready(ctx))
	})

	It("waits for a Host that does not exist", func(ctx SpecContext) {
		w.declare(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.HostRef.Name = "nowhere" })
		w.untilReason(ctx, "Unknown/HostNotFound")
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
	})

	It("does not act on a stale read", func(ctx SpecContext) {
		w.create(ctx)
		stale := w.find(ctx)
		w.host.ClearJournal()
		w.host.Kill(ledgerUnit)
		w.until(ctx, "correction", func() bool { return w.host.Effects("start") == 1 })
		w.until(ctx, "Ready", w.ready(ctx))
		w.host.Kill(ledgerUnit)
		w.until(ctx, "the fleet sees it", func() bool {
			answer := w.operator.fleet.View(w.hostKey, w.object()).Answers[machine.Unit{Name: ledgerUnit.Name}]
			state, ok := answer.(machine.UnitState)
			w.operator.stale = stale
			return ok && state.Active == "failed"
		})
		events := w.recorder.all()
		for range 10 {
			w.pass(ctx)
		}
		Expect(w.host.Effects("start")).To(Equal(1))
		Expect(w.recorder.all()).To(Equal(events), "nor does it tell anything")
		w.operator.stale = nil
		w.until(ctx, "correction", func() bool { return w.host.Effects("start") == 2 })
	})
})
