package externalservice_test

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

var _ = Describe("Deletion", func() {
	var w *world
	BeforeEach(func(ctx SpecContext) { w = newWorld(ctx) })

	It("follows the policy", func(ctx SpecContext) {
		for policy, journal := range map[v1alpha1.DeletionPolicy][]string{
			v1alpha1.DeletionDelete: scenes[3].journal,
			v1alpha1.DeletionStop:   {"stop systemd/ledger.service", "release systemd/ledger.service", "release file//etc/ledger.conf"},
			v1alpha1.DeletionOrphan: {"release systemd/ledger.service", "release file//etc/ledger.conf"},
		} {
			w = newWorld(ctx)
			w.create(ctx, func(s *v1alpha1.ExternalServiceSpec) { s.DeletionPolicy = policy })
			w.host.ClearJournal()
			w.delete(ctx)
			w.until(ctx, "gone", w.gone(ctx))
			Expect(w.host.Journal()).To(Equal(journal), string(policy))
			Eventually(w.host.Jobs).WithTimeout(patience).Should(BeEmpty(), "its receipts are removed")
		}
	})

	It("removes receipts that an operator left which ended before it could", func(ctx SpecContext) {
		for write := 1; ; write++ {
			w = newWorld(ctx)
			first := w.operator
			first.dies, first.ending = write, unheeded
			w.declare(ctx)
			w.repeat(ctx, "Ready, or the end", func() bool { return first.dead() || w.ready(ctx)() }, func() { _, _ = w.tryPass(ctx) })
			if !first.dead() {
				break // it had less to write
			}
			w.delete(ctx)
			w.begin()
			w.until(ctx, "gone", w.gone(ctx))
			Eventually(w.host.Jobs).WithTimeout(patience).Should(BeEmpty(), "after write %d", write)
		}
	})

	It("removes them also when its first record is refused", func(ctx SpecContext) {
		w.declare(ctx)
		w.repeat(ctx, "an outcome", func() bool { return len(w.find(ctx).Status.History) > 0 }, func() {
			if execution := w.find(ctx).Status.Execution; execution != nil {
				w.operator.dies, w.operator.ending = len(w.operator.written())+1, unheeded // with the outcome
			}
			_, _ = w.tryPass(ctx)
		})
		Expect(w.host.Jobs()).NotTo(BeEmpty())
		w.begin()
		stale := w.find(ctx)
		stale.Annotations = map[string]string{v1alpha1.CancelRequestAnnotation: "1"} // so that there is something to record
		w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Annotations = map[string]string{"somebody": "was faster"} })
		w.operator.stale = stale
		Eventually(func() fleet.State { return w.operator.fleet.View(w.hostKey, w.object()).Host.State }).WithTimeout(patience).Should(Equal(fleet.Connected))
		w.pass(ctx)
		w.operator.stale = nil
		w.repeat(ctx, "no receipts", func() bool { return len(w.host.Jobs()) == 0 }, func() { w.pass(ctx) })
	})

	It("works when the spec has become invalid, and while suspended", func(ctx SpecContext) {
		w.create(ctx)
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			es.Spec.Files[0].Path, es.Spec.Suspend = "/etc//invalid", true
		})
		w.host.ClearJournal()
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Journal()).To(Equal(scenes[3].journal))
	})

	It("waits for a host that does not answer, and says how to go on without it", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.host.Stop()
		w.untilReason(ctx, "Unknown/HostUnreachable")
		w.delete(ctx)
		w.untilReason(ctx, "Unknown/Deleting")
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(And(ContainSubstring("unit ledger.service"), ContainSubstring(v1alpha1.AbandonAnnotation)))
		w.host.Resume()
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Journal()).To(Equal(scenes[3].journal))
	})

	It("leaves behind what it is told to", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.host.Stop()
		w.untilReason(ctx, "Unknown/HostUnreachable")
		w.edit(ctx, func(es *v1alpha1.ExternalService) {
			es.Annotations = map[string]string{v1alpha1.AbandonAnnotation: "true"}
		})
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.host.Journal()).To(BeEmpty())
		Expect(w.recorder.all()).To(ContainElement(And(ContainSubstring("LeftBehind"), ContainSubstring("file /etc/ledger.conf"))))
	})

	It("says what it leaves behind when the Host is gone", func(ctx SpecContext) {
		w.create(ctx)
		Expect(live.Delete(ctx, &v1alpha1.Host{ObjectMeta: metaOf(w.hostKey)})).To(Succeed())
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.recorder.count("LeftBehind")).To(Equal(1))
	})

	It("ends the job that runs, and looks at the host before it goes on", func(ctx SpecContext) {
		w.create(ctx)
		w.host.ClearJournal()
		w.host.HoldJobs()
		w.setContent(ctx, "port=2\n")
		w.untilRunning(ctx)
		id := w.find(ctx).Status.Execution.ID
		w.delete(ctx)
		w.until(ctx, "cancelled", func() bool { return w.recorder.count("JobCancelled") == 1 })
		_, state := w.host.Job(id)
		Expect(state.Phase).To(BeElementOf(machine.JobCancelled, machine.JobAbsent))
		Expect(w.find(ctx).Status.History[0].Outcome).To(Equal(v1alpha1.ExecutionCancelled))
		w.host.FinishJobs()
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.journal()).To(Equal(append([]string{"cancel JOB"}, scenes[3].journal...)))
	})

	It("waits for a job that it cannot end", func(ctx SpecContext) {
		w.create(ctx)
		w.host.HoldJobs()
		w.setContent(ctx, "port=2\n")
		w.untilRunning(ctx)
		w.host.Stop()
		w.delete(ctx)
		w.untilReason(ctx, "Unknown/Deleting")
		w.host.FinishJobs() // It ends by itself while nobody sees it.
		w.host.Resume()
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.recorder.count("JobCancelled")).To(BeZero())
		_, there := w.host.Content(config1)
		Expect(there).To(BeFalse())
	})

	It("goes on after a failure", func(ctx SpecContext) {
		w.create(ctx)
		w.host.FailStep("DisableUnit", "read-only file system")
		w.delete(ctx)
		w.until(ctx, "failure", func() bool { return w.recorder.count("JobFailed") == 1 })
		Expect(w.message(ctx, v1alpha1.ReadyCondition)).To(ContainSubstring("read-only file system"))
		w.clock.forward(time.Minute)
		w.until(ctx, "gone", w.gone(ctx))
		_, there := w.host.Content(config1)
		Expect(there).To(BeFalse())
	})

	It("says when it removes what was there before", func(ctx SpecContext) {
		w.host.Put(config1, fleettest.File{Content: []byte("port=1\n")})
		w.create(ctx)
		w.delete(ctx)
		w.until(ctx, "gone", w.gone(ctx))
		Expect(w.recorder.all()).To(ContainElement(ContainSubstring("is removed although it was on the host before")))
	})
})
