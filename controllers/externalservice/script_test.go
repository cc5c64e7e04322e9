package externalservice_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/artifact"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
)

const (
	component = "/srv/schema"
	// defaultTimeout is that of spec.timeout.
	defaultTimeout = 5 * time.Minute
)

// schema makes the object one of scripts: the component is the content of a file, VERSION.
func schema(spec *v1alpha1.ExternalServiceSpec) {
	version := "version 7"
	spec.Files, spec.Systemd = nil, nil
	spec.Script = &v1alpha1.Script{
		Observe: "observe", Apply: "apply", Remove: "remove",
		Environment: []v1alpha1.EnvironmentVariable{{Name: "VERSION", Value: &version}},
	}
}

func schemaWithFile(spec *v1alpha1.ExternalServiceSpec) {
	schema(spec)
	content := "port=1\n"
	spec.Files = []v1alpha1.File{{Path: config1, Content: &content, RestartOnChange: true}}
}

func idempotent(spec *v1alpha1.ExternalServiceSpec) {
	schema(spec)
	spec.Script.Idempotent = true
}

// install puts what the scripts do on the host.
func (w *world) install() {
	w.host.SetScript("observe", func(run *fleettest.ScriptRun) (int, string) {
		if found, _ := run.Read(component); found == run.Environment["VERSION"] {
			return 0, "in place since 10:11:12"
		}
		return 1, "another one at 10:11:12"
	})
	w.host.SetScript("apply", func(run *fleettest.ScriptRun) (int, string) {
		run.Write(component, run.Environment["VERSION"])
		return 0, ""
	})
	w.host.SetScript("remove", func(run *fleettest.ScriptRun) (int, string) {
		run.Remove(component)
		return 0, ""
	})
}

func (w *world) annotate(ctx context.Context, key, value string) {
	GinkgoHelper()
	w.edit(ctx, func(es *v1alpha1.ExternalService) {
		if es.Annotations == nil {
			es.Annotations = map[string]string{}
		}
		es.Annotations[key] = value
	})
}

func (w *world) passes(ctx context.Context, count int) {
	GinkgoHelper()
	for range count {
		w.pass(ctx)
	}
}

func (w *world) untilRunning(ctx context.Context) {
	GinkgoHelper()
	w.until(ctx, "Running", func() bool {
		execution := w.find(ctx).Status.Execution
		return execution != nil && execution.State == v1alpha1.ExecutionRunning
	})
}

const claimed = "claim script/"

var _ = Describe("A component of scripts", func() {
	var w *world
	BeforeEach(func(ctx SpecContext) {
		w = newWorld(ctx)
		w.install()
	})

	It("is applied, kept and removed", func(ctx SpecContext) {
		w.create(ctx, schema)
		Expect(w.host.Journal()).To(Equal([]string{claimed + w.key.String(), "run apply"}))
		status := w.find(ctx).Status
		Expect(status.Observed).To(Equal(&v1alpha1.ObservedService{State: "InSync", Message: "in place since …"}))
		Expect(status.Inventory).To(HaveLen(1))
		Expect(status.Inventory[0].Script.Remove).To(Equal("remove"))
		Expect(status.Execution).To(BeNil())
		Expect(w.reason(ctx, v1alpha1.HealthyCondition)).To(Equal("True/Healthy"))

		w.operator.forgetWrites()
		looks := w.host.Observations()
		w.until(ctx, "several looks", func() bool { return w.host.Observations() > looks+2 && len(w.host.Jobs()) == 0 })
		Expect(w.operator.written()).To(BeEmpty())

		By("drift")
		w.host.ClearJournal()
		w.host.Delete(component)
		w.until(ctx, "correction", func() bool { return w.host.Effects("run apply") == 1 && w.ready(ctx)() })
		Expect(w.find(ctx).Status.Corrections).To(HaveLen(1))

		By("a spec that observe minds")
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			next := "version 8"
			es.Spec.Script.Environment[0].Value = &next
		})
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(hasComponent(w, "version 8")).To(BeTrue())
		Expect(w.find(ctx).Status.History[0].Reason).To(Equal("Update"))

		By("the end")
		w.host.ClearJournal()
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Journal()).To(Equal([]string{"run remove", "release script/" + w.key.String()}))
	})

	It("is not touched while observe says neither yes nor no", func(ctx SpecContext) {
		w.host.SetScript("observe", func(*fleettest.ScriptRun) (int, string) { return 4, "cannot connect\nno such database\n" })
		w.declare(ctx, schema)
		w.untilReason(ctx, "Unknown/ObservationFailed")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(ContainSubstring("exit code 4"), HaveSuffix(": no such database")))
		w.passes(ctx, 5)
		Expect(w.host.Journal()).To(BeEmpty())
		w.install()
		w.until(ctx, "Ready", w.ready(ctx))
	})

	It("is only reported without an apply", func(ctx SpecContext) {
		w.declare(ctx, schema, func(s *v1alpha1.ExternalServiceSpec) { s.Script.Apply, s.Script.Remove = "", "" })
		w.untilReason(ctx, "False/DriftDetected")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("there is no spec.script.apply to put it right: script: Differs (another one at …) -> InSync"))
		Expect(w.reason(ctx, v1alpha1.DriftedCondition)).To(Equal("True/DriftDetected"))
		Expect(w.host.Journal()).To(BeEmpty())
		w.host.Put(component, fleettest.File{Content: []byte("version 7")})
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.reason(ctx, v1alpha1.DriftedCondition)).To(Equal("False/InSync"))
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Journal()).To(BeEmpty())
	})

	It("says so when apply succeeds and observe does not see it, and backs off", func(ctx SpecContext) {
		w.host.SetScript("apply", func(*fleettest.ScriptRun) (int, string) { return 0, "" })
		w.declare(ctx, schema)
		w.until(ctx, "a failure", func() bool { return w.recorder.count("JobFailed") == 1 })
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("Unknown/ProgressingWithRetry"))
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(Equal("spec.script.apply succeeded, and spec.script.observe still says Differs (another one at …)"))
		w.passes(ctx, 10)
		Expect(w.host.Effects("run apply")).To(Equal(1), "the back-off holds")
		Expect(w.find(ctx).Status.History[0].Outcome).To(Equal(v1alpha1.ExecutionFailed))
		Expect(w.find(ctx).Status.LastAppliedHash).To(BeEmpty())
		for attempt := 2; attempt <= 3; attempt++ {
			w.clock.forward(time.Minute)
			w.until(ctx, "another attempt", func() bool { return w.recorder.count("JobFailed") == attempt })
		}
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("False/Failed"))
		Expect(w.find(ctx).Status.Execution.Reason).To(Equal("Create"))
		w.install()
		w.clock.forward(10 * time.Minute)
		w.until(ctx, "Ready", w.ready(ctx))
	})

	It("stops fighting over it", func(ctx SpecContext) {
		w.create(ctx, schema)
		w.host.ClearJournal()
		w.until(ctx, "Fighting", func() bool {
			w.host.Delete(component)
			w.clock.forward(time.Second)
			return w.reason(ctx, v1alpha1.ReadyCondition) == "False/Fighting" || w.recorder.count("JobFailed") > 20
		})
		Expect(w.host.Effects("run apply")).To(BeNumerically(">=", 7))
	})

	It("names the step that failed", func(ctx SpecContext) {
		w.host.SetScript("apply", func(*fleettest.ScriptRun) (int, string) { return 9, "disk full" })
		w.declare(ctx, schema)
		w.untilReason(ctx, "Unknown/ProgressingWithRetry")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(Equal("run spec.script.apply failed with exit code 1: exit code 9: disk full"))
	})

	It("is applied once when a file of it changes", func(ctx SpecContext) {
		w.create(ctx, schemaWithFile)
		w.host.ClearJournal()
		w.setContent(ctx, "port=2\n")
		w.until(ctx, "Ready", w.ready(ctx))
		due := "script/" + w.key.String() + "/due"
		Expect(w.host.Journal()).To(Equal([]string{"claim " + due, "put /etc/ledger.conf", "run apply", "release " + due}))
	})

	It("is removed when it is no longer declared", func(ctx SpecContext) {
		w.create(ctx, schemaWithFile)
		w.host.ClearJournal()
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Script = nil })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(ContainElement("run remove"))
		Expect(w.find(ctx).Status.Inventory).To(HaveLen(1))
	})

	It("takes values from a Secret, and needs it for its removal", func(ctx SpecContext) {
		secretly := func(s *v1alpha1.ExternalServiceSpec) {
			schema(s)
			s.Script.Environment[0] = v1alpha1.EnvironmentVariable{Name: "VERSION", SecretKeyRef: &v1alpha1.KeyReference{Name: "db", Key: "version"}}
		}
		w.declare(ctx, secretly)
		w.untilReason(ctx, "Unknown/ReferenceNotFound")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("spec.script.environment[VERSION]: Secret " + w.namespace + "/db does not exist"))
		secret := func(value string) *corev1.Secret {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "db"}, StringData: map[string]string{"version": value}}
		}
		Expect(live.Create(ctx, secret("hunter-two"))).To(Succeed())
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(live.Update(ctx, secret("hunter-three"))).To(Succeed())
		w.until(ctx, "the new value", func() bool { return hasComponent(w, "hunter-three") })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(live.Update(ctx, secret("a\x00b"))).To(Succeed())
		w.untilReason(ctx, "False/Invalid")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(Equal(`spec.script.environment[VERSION] (key "version" of Secret db): the value holds a NUL character, which no environment can`))

		Expect(live.Delete(ctx, secret(""))).To(Succeed())
		w.host.ClearJournal()
		w.delete(ctx)
		w.untilReason(ctx, "Unknown/Deleting")
		w.until(ctx, "a word about the Secret", func() bool {
			message := w.message(ctx, v1alpha1.ReadyCondition)
			return message == "the recorded remove script of script "+w.key.String()+` needs key "version" of Secret db for VERSION: it is not there; to leave it behind, annotate with isthmus.dev/abandon: "true"`
		})
		Expect(w.host.Journal()).To(BeEmpty())
		Expect(live.Create(ctx, secret("hunter-two"))).To(Succeed())
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Journal()).To(ContainElement("run remove"))
		Expect(fmt.Sprint(w.recorder.all())).NotTo(ContainSubstring("hunter"))
	})

	It("is left behind without the Secret that its removal needs, if told so", func(ctx SpecContext) {
		w.create(ctx, func(s *v1alpha1.ExternalServiceSpec) {
			schema(s)
			s.Script.Remove = ""
		})
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			es.Spec.Script.Remove = "remove"
			es.Spec.Script.Environment = append(es.Spec.Script.Environment, v1alpha1.EnvironmentVariable{Name: "T", SecretKeyRef: &v1alpha1.KeyReference{Name: "t", Key: "t"}})
		})
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "t"}, StringData: map[string]string{"t": "t"}}
		Expect(live.Create(ctx, secret)).To(Succeed())
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1), "a remove script is recorded without a run of apply")
		Expect(live.Delete(ctx, secret)).To(Succeed())
		w.delete(ctx)
		w.untilReason(ctx, "Unknown/Deleting")
		w.annotate(ctx, v1alpha1.AbandonAnnotation, "true")
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Effects("run remove")).To(BeZero())
		Expect(w.recorder.all()).To(ContainElement(And(ContainSubstring("LeftBehind"), ContainSubstring("script "+w.key.String()))))
	})

	It("says what stays without a remove script", func(ctx SpecContext) {
		w.create(ctx, schema, func(s *v1alpha1.ExternalServiceSpec) { s.Script.Remove = "" })
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(hasComponent(w, "version 7")).To(BeTrue())
		Expect(w.recorder.all()).To(ContainElement(And(ContainSubstring("Notice"), ContainSubstring("left behind on the host: no spec.script.remove was declared"))))
	})
})

func hasComponent(w *world, content string) bool {
	found, ok := w.host.Content(component)
	return ok && found == content
}

var _ = Describe("A job whose outcome is not known", func() {
	var w *world
	BeforeEach(func(ctx SpecContext) {
		w = newWorld(ctx)
		w.install()
	})

	unknown := func(ctx context.Context, steps int, changes ...func(*v1alpha1.ExternalServiceSpec)) {
		GinkgoHelper()
		w.host.RebootDuringNextJob(steps)
		w.declare(ctx, changes...)
		w.until(ctx, "outcome unknown", func() bool {
			w.host.Resume()
			return w.recorder.count("OutcomeUnknown") == 1
		})
	}

	It("is repeated by a person only, if it may not be run twice", func(ctx SpecContext) {
		unknown(ctx, 1, schema)
		w.untilReason(ctx, "False/OutcomeUnknown")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(
			ContainSubstring("the job began on the host at … by its clock, in its boot 00000001-b007-4000-8000-000000000000"),
			ContainSubstring("looked at again"), ContainSubstring(v1alpha1.ReconcileRequestAnnotation)))
		Expect(w.find(ctx).Status.Execution.Idempotent).To(HaveValue(BeFalse()))
		w.clock.forward(time.Hour)
		w.passes(ctx, 10)
		w.begin()
		w.until(ctx, "a look by another process", func() bool { return w.operator.fleet.View(w.hostKey, w.object()).Complete })
		w.passes(ctx, 5)
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Script.Apply = "apply " }) // no person looked at the host
		w.passes(ctx, 5)
		Expect(w.host.Effects("run")).To(BeZero())
		Expect(w.reason(ctx, v1alpha1.ReadyCondition)).To(Equal("False/OutcomeUnknown"))
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Script.Apply = "apply" })
		w.annotate(ctx, v1alpha1.ReconcileRequestAnnotation, "again")
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1))
	})

	It("is repeated by a person whose word comes while nothing is connected", func(ctx SpecContext) {
		unknown(ctx, 1, schema)
		w.untilReason(ctx, "False/OutcomeUnknown")
		w.begin()
		w.operator.fleet.Remove(w.hostKey)
		w.annotate(ctx, v1alpha1.ReconcileRequestAnnotation, "again")
		w.passes(ctx, 3)
		w.operator.connect()
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1))
		Expect(w.find(ctx).Status.LastHandledReconcileAt).To(Equal("again"))
	})

	It("is repeated by a person after the maintenance in which the word came", func(ctx SpecContext) {
		unknown(ctx, 1, schema)
		w.untilReason(ctx, "False/OutcomeUnknown")
		w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.Maintenance.Enabled = true })
		w.annotate(ctx, v1alpha1.ReconcileRequestAnnotation, "again")
		w.untilReason(ctx, "Unknown/Maintenance")
		w.passes(ctx, 3)
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("not done until it ends: script"))
		Expect(w.host.Effects("run")).To(BeZero())
		w.editHost(ctx, func(h *v1alpha1.Host) { h.Spec.Maintenance.Enabled = false })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1))
	})

	It("does not matter when a look finds nothing left to do", func(ctx SpecContext) {
		unknown(ctx, 2, schema)
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1))
		Expect(w.recorder.count("OutcomeSettled")).To(Equal(1))
		Expect(w.find(ctx).Status.History[0].Outcome).To(Equal(v1alpha1.ExecutionUnknown))
	})

	It("or when a person puts the component right", func(ctx SpecContext) {
		unknown(ctx, 1, schema)
		w.untilReason(ctx, "False/OutcomeUnknown")
		w.host.Put(component, fleettest.File{Content: []byte("version 7")})
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run")).To(BeZero())
	})

	It("is repeated if its author allows that", func(ctx SpecContext) {
		unknown(ctx, 1, idempotent)
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1))
		Expect(w.find(ctx).Status.History[1].Outcome).To(Equal(v1alpha1.ExecutionUnknown))
	})

	It("stops a removal as well, and says how to go on", func(ctx SpecContext) {
		w.create(ctx, schema)
		w.host.ClearJournal()
		w.host.SetScript("remove", func(*fleettest.ScriptRun) (int, string) { return 0, "" })
		w.host.HoldJobs()
		w.delete(ctx)
		w.untilRunning(ctx)
		w.host.LoseJobs()
		w.until(ctx, "doubt", func() bool {
			c := condition.Get(w.find(ctx).Status.Conditions, v1alpha1.ReadyCondition)
			return c.Reason == v1alpha1.ReasonOutcomeUnknown
		})
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(ContainSubstring(v1alpha1.ReconcileRequestAnnotation), ContainSubstring(v1alpha1.AbandonAnnotation)))
		w.host.FinishJobs()
		w.passes(ctx, 5)
		Expect(w.host.Effects("run")).To(BeZero())
		w.annotate(ctx, v1alpha1.ReconcileRequestAnnotation, "again")
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Effects("run remove")).To(Equal(1))
	})
})

var _ = Describe("Cancelling", func() {
	var w *world
	BeforeEach(func(ctx SpecContext) {
		w = newWorld(ctx)
		w.install()
	})

	It("ends the job that runs, once, and leaves the rest to a person", func(ctx SpecContext) {
		w.host.HoldJobs()
		w.declare(ctx, schema)
		w.untilRunning(ctx)
		w.annotate(ctx, v1alpha1.CancelRequestAnnotation, "1")
		w.untilReason(ctx, "False/Cancelled")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(
			ContainSubstring("cancelled on the host during: write down who manages script/"), ContainSubstring(v1alpha1.ReconcileRequestAnnotation)))
		status := w.find(ctx).Status
		Expect(status.LastHandledCancelAt).To(Equal("1"))
		Expect(status.History[0].Outcome).To(Equal(v1alpha1.ExecutionCancelled))
		Expect(w.recorder.count("CancelRequested")).To(Equal(1))
		Expect(w.recorder.count("JobCancelled")).To(Equal(1))
		w.clock.forward(time.Hour)
		w.passes(ctx, 5)
		Expect(w.journal()).To(Equal([]string{"cancel JOB"}))

		By("a reconcile that is asked for, which the old request does not end")
		w.annotate(ctx, v1alpha1.ReconcileRequestAnnotation, "again")
		w.untilRunning(ctx)
		w.passes(ctx, 5)
		Expect(w.recorder.count("CancelRequested")).To(Equal(1))
		w.host.FinishJobs()
		w.until(ctx, "Ready", w.ready(ctx))

		By("a request without a job")
		w.annotate(ctx, v1alpha1.CancelRequestAnnotation, "2")
		w.pass(ctx)
		Expect(w.recorder.count("NothingToCancel")).To(Equal(1))
		Expect(w.find(ctx).Status.LastHandledCancelAt).To(Equal("2"))
		w.host.Delete(component)
		w.until(ctx, "correction", func() bool { return w.host.Effects("run apply") == 2 && w.ready(ctx)() })
	})

	It("ends a job that the host should have ended long ago", func(ctx SpecContext) {
		w.host.HoldJobs()
		w.declare(ctx, schema)
		w.untilRunning(ctx)
		w.clock.forward(defaultTimeout + 9*time.Minute)
		w.passes(ctx, 3)
		Expect(w.recorder.count("CancelRequested")).To(BeZero())
		w.clock.forward(2 * time.Minute)
		w.untilReason(ctx, "False/Cancelled")
		Expect(w.journal()).To(Equal([]string{"cancel JOB"}))
	})

	It("ends a job that waits", func(ctx SpecContext) {
		release := w.host.BlockStart()
		w.declare(ctx, schema)
		w.until(ctx, "a job", func() bool { return w.find(ctx).Status.Execution != nil })
		w.annotate(ctx, v1alpha1.CancelRequestAnnotation, "1")
		w.pass(ctx)
		release()
		w.until(ctx, "an end", func() bool { return w.reason(ctx, v1alpha1.ReadyCondition) == "False/Cancelled" || w.ready(ctx)() })
		Expect(w.host.Effects("run apply")).To(BeNumerically("<=", 1))
	})

	It("is over when the spec changes", func(ctx SpecContext) {
		w.host.HoldJobs()
		w.declare(ctx, schema)
		w.untilRunning(ctx)
		w.annotate(ctx, v1alpha1.CancelRequestAnnotation, "1")
		w.untilReason(ctx, "False/Cancelled")
		w.host.FinishJobs()
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			next := "version 8"
			es.Spec.Script.Environment[0].Value = &next
		})
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(hasComponent(w, "version 8")).To(BeTrue())
	})

	It("of a suspended object waits for its job to end by itself", func(ctx SpecContext) {
		w.host.HoldJobs()
		w.declare(ctx, schema)
		w.untilRunning(ctx)
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Suspend = true })
		w.untilReason(ctx, "Unknown/Suspended")
		w.host.FinishJobs()
		Expect(w.host.Effects("run apply")).To(Equal(1), "the job goes on")
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Suspend = false })
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Effects("run apply")).To(Equal(1))
	})
})

var _ = Describe("Files that are downloaded", func() {
	It("come by the host or by the operator", func(ctx SpecContext) {
		const text = "a large file"
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			requests++
			_, _ = rw.Write([]byte(text))
		}))
		DeferCleanup(server.Close)
		sum := sha256.Sum256([]byte(text))
		w := newWorld(ctx)
		w.operator.reconciler.Artifacts = artifact.New(artifact.Options{Dialer: &net.Dialer{}})
		w.host.Serve("https://files.example/a", text)
		w.create(ctx, func(s *v1alpha1.ExternalServiceSpec) {
			s.Systemd = nil
			s.Files = []v1alpha1.File{
				{Path: "/opt/a", Source: &v1alpha1.FileSource{URL: "https://files.example/a", SHA256: hex.EncodeToString(sum[:])}},
				{Path: "/opt/c", Source: &v1alpha1.FileSource{URL: server.URL + "/b", SHA256: hex.EncodeToString(sum[:]), Via: "Operator"}},
				{Path: "/opt/b", Mode: "0755", Source: &v1alpha1.FileSource{URL: server.URL + "/b?signature=hunter2", SHA256: hex.EncodeToString(sum[:]), Via: "Operator"}},
			}
		})
		for _, path := range []string{"/opt/a", "/opt/b", "/opt/c"} {
			content, _ := w.host.Content(path)
			Expect(content).To(Equal(text), path)
		}
		Expect(requests).To(Equal(1))
		Expect(w.recorder.all()).To(ContainElement(And(
			ContainSubstring("files[/opt/a]: absent -> sha256:"), ContainSubstring("from https://files.example/a"), ContainSubstring("/b?…"))))
		Expect(fmt.Sprint(w.recorder.all())).NotTo(ContainSubstring("hunter2"))

		w.host.ClearJournal()
		w.host.Put("/opt/a", fleettest.File{Content: []byte("evil")})
		w.until(ctx, "correction", func() bool { return w.host.Effects("put /opt/a") == 1 && w.ready(ctx)() })
		Expect(w.host.Journal()).To(Equal([]string{"put /opt/a"}))
		Expect(requests).To(Equal(1), "what is there is not downloaded")
	})
})
