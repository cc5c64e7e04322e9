package externalservice_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/objects/statuspatch"
)

// scene is a part of the life of an object, and what it does to the host: exactly once.
type scene struct {
	name    string
	prepare func(ctx context.Context, w *world) // with a healthy operator
	begin   func(ctx context.Context, w *world) // what the operator has to react to
	end     func(ctx context.Context, w *world) func() bool
	journal []string
}

func ready(ctx context.Context, w *world) func() bool {
	return func() bool {
		object := w.find(ctx)
		return w.ready(ctx)() && object.Status.Execution == nil && len(object.Status.Drift) == 0 &&
			object.Spec.Files[0].Content != nil && hasContent(w, *object.Spec.Files[0].Content)
	}
}

func hasContent(w *world, content string) bool {
	found, ok := w.host.Content(config1)
	return ok && found == content
}

var scenes = []scene{
	{
		name:    "creation",
		prepare: func(context.Context, *world) {},
		begin:   func(ctx context.Context, w *world) { w.declare(ctx, exposed) },
		end:     ready,
		journal: created,
	},
	{
		name:    "change",
		prepare: func(ctx context.Context, w *world) { w.create(ctx, exposed) },
		begin:   func(ctx context.Context, w *world) { w.setContent(ctx, "port=2\n") },
		end:     ready,
		journal: []string{"put /etc/ledger.conf", "restart systemd/ledger.service"},
	},
	{
		name:    "drift",
		prepare: func(ctx context.Context, w *world) { w.create(ctx, exposed) },
		begin:   func(_ context.Context, w *world) { w.host.Put(config1, fleettest.File{Content: []byte("evil")}) },
		end:     ready,
		journal: []string{"put /etc/ledger.conf", "restart systemd/ledger.service"},
	},
	{
		name:    "deletion",
		prepare: func(ctx context.Context, w *world) { w.create(ctx, exposed) },
		begin:   func(ctx context.Context, w *world) { w.delete(ctx) },
		end:     func(ctx context.Context, w *world) func() bool { return w.gone(ctx) },
		journal: []string{
			"stop systemd/ledger.service", "disable ledger.service", "remove /etc/systemd/system/ledger.service", "reload units",
			"release systemd/ledger.service", "remove /etc/ledger.conf", "release file//etc/ledger.conf",
		},
	},
}

var scriptScenes = []scene{
	{
		name:    "creation of scripts",
		prepare: func(_ context.Context, w *world) { w.install() },
		begin:   func(ctx context.Context, w *world) { w.declare(ctx, schemaWithFile, exposed) },
		end:     ready,
		journal: []string{"claim file//etc/ledger.conf", "claim script/KEY", "claim script/KEY/due", "put /etc/ledger.conf", "run apply", "release script/KEY/due"},
	},
	{
		name:    "change of a file of scripts",
		prepare: func(ctx context.Context, w *world) { w.install(); w.create(ctx, schemaWithFile, exposed) },
		begin:   func(ctx context.Context, w *world) { w.setContent(ctx, "port=2\n") },
		end:     ready,
		journal: []string{"claim script/KEY/due", "put /etc/ledger.conf", "run apply", "release script/KEY/due"},
	},
	{
		name:    "deletion of scripts",
		prepare: func(ctx context.Context, w *world) { w.install(); w.create(ctx, schema) },
		begin:   func(ctx context.Context, w *world) { w.delete(ctx) },
		end:     func(ctx context.Context, w *world) func() bool { return w.gone(ctx) },
		journal: []string{"run remove", "release script/KEY"},
	},
	{
		name:    "repetition that a person asked for",
		prepare: doubted,
		begin: func(ctx context.Context, w *world) {
			w.annotate(ctx, v1alpha1.ReconcileRequestAnnotation, "again")
		},
		end:     func(ctx context.Context, w *world) func() bool { return w.ready(ctx) },
		journal: []string{"run apply"},
	},
	{
		name:    "cancellation",
		prepare: held,
		begin:   func(ctx context.Context, w *world) { w.annotate(ctx, v1alpha1.CancelRequestAnnotation, "1") },
		end: func(ctx context.Context, w *world) func() bool {
			return func() bool { return w.reason(ctx, v1alpha1.ReadyCondition) == "False/Cancelled" }
		},
		journal: []string{"cancel JOB"},
	},
	{
		name:    "deletion while a job runs",
		prepare: held,
		begin:   func(ctx context.Context, w *world) { w.delete(ctx) },
		end:     func(ctx context.Context, w *world) func() bool { return w.gone(ctx) },
		journal: []string{"cancel JOB"},
	},
}

// held is an operator whose first job runs for ever.
func held(ctx context.Context, w *world) {
	w.install()
	w.host.HoldJobs()
	w.declare(ctx, schema)
	w.untilRunning(ctx)
}

// doubted is an operator that does not know what became of its first job.
func doubted(ctx context.Context, w *world) {
	w.install()
	w.host.RebootDuringNextJob(1)
	w.declare(ctx, schema)
	w.until(ctx, "OutcomeUnknown", func() bool {
		w.host.Resume()
		return w.reason(ctx, v1alpha1.ReadyCondition) == "False/OutcomeUnknown"
	})
}

func exposed(spec *v1alpha1.ExternalServiceSpec) {
	spec.Ports = []v1alpha1.ServicePort{{Name: "http", Port: 80, TargetPort: 8080}}
	spec.Expose = &v1alpha1.Expose{}
}

// survive lives through a scene with an operator that dies, as often as it takes.
func (w *world) survive(ctx context.Context, s scene, dies func(*operator)) {
	GinkgoHelper()
	s.prepare(ctx, w)
	w.host.ClearJournal()
	s.begin(ctx, w)
	dies(w.operator)
	ended := s.end(ctx, w)
	w.repeat(ctx, s.name, ended, func() {
		_, err := w.tryPass(ctx)
		if err == nil && w.operator.dead() {
			w.begin()
		}
		if err != nil {
			Expect(errors.Is(err, errDead) || statuspatch.IsStale(err)).To(BeTrue(), "%v", err)
			w.begin() // another process, that knows nothing of the one before
		}
	})
	journal := []string{}
	for _, entry := range s.journal {
		journal = append(journal, strings.ReplaceAll(entry, "KEY", w.key.String()))
	}
	Expect(w.journal()).To(Equal(journal), "each effect once, in order")
}

// jobID is an id as status.execution has it.
var jobID = regexp.MustCompile(`\bx[0-9a-f]{40}\b`)

// journal is that of the host, with JOB in the place of each job's id.
func (w *world) journal() []string {
	effects := []string{}
	for _, entry := range w.host.Journal() {
		effects = append(effects, jobID.ReplaceAllString(entry, "JOB"))
	}
	return effects
}

var _ = Describe("The end of the operator at any point", func() {
	for _, s := range slices.Concat(scenes, scriptScenes) {
		for _, when := range []ending{unanswered, unheeded} {
			It(fmt.Sprintf("loses and repeats nothing in a %s, %s", s.name, when), func(ctx SpecContext) {
				for write := 1; ; write++ {
					w := newWorld(ctx)
					first := w.operator
					w.survive(ctx, s, func(o *operator) {
						o.forgetWrites()
						o.dies, o.ending = write, when
					})
					if w.operator == first {
						break // it had less to write
					}
					Expect(write).To(BeNumerically("<", 20), "a scene takes few writes")
				}
			})
		}
	}

	It("keeps the conditions of what is well when it starts anew", func(ctx SpecContext) {
		w := newWorld(ctx)
		w.create(ctx, exposed)
		before := w.find(ctx)
		for range 3 {
			w.begin()
			w.until(ctx, "a look at the host", func() bool {
				view := w.operator.fleet.View(w.hostKey, w.object())
				return view.Complete
			})
			w.pass(ctx)
			Expect(w.operator.written()).To(BeEmpty())
		}
		Expect(w.find(ctx).ResourceVersion).To(Equal(before.ResourceVersion))
	})
})

var _ = Describe("Jobs whose outcome is not told", func() {
	for _, loss := range []fleettest.Loss{fleettest.BeforeEffect, fleettest.AfterEffect, fleettest.DuringEffect} {
		It(fmt.Sprintf("does each thing once when the reply is lost %s", loss), func(ctx SpecContext) {
			w := newWorld(ctx)
			w.host.LoseReply(loss)
			w.declare(ctx)
			w.until(ctx, "Ready", func() bool {
				w.clock.forward(100 * 1e6) // the back-off of a job that was not handed over
				w.host.FinishJobs()
				return w.ready(ctx)()
			})
			Expect(w.host.Journal()).To(Equal(created))
		})
	}

	It("looks first, and then goes on, after a reboot in the middle", func(ctx SpecContext) {
		w := newWorld(ctx)
		w.host.RebootDuringNextJob(4)
		w.declare(ctx)
		w.until(ctx, "outcome unknown", func() bool {
			w.host.Resume()
			return w.recorder.count("OutcomeUnknown") == 1
		})
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.host.Journal()).To(Equal(slices.Concat(created[:4], created[5:])), "what was done is not done again, and a booted systemd needs no reload")
		Expect(w.find(ctx).Status.History).To(HaveLen(2))
		Expect(w.find(ctx).Status.History[1].Outcome).To(Equal(v1alpha1.ExecutionUnknown))
	})

	It("says why a job was not handed over, and tries again with the same id", func(ctx SpecContext) {
		w := newWorld(ctx)
		w.create(ctx)
		w.host.SetEpoch(1 << 62)
		w.host.Kill(ledgerUnit)
		w.untilReason(ctx, "Unknown/HostNotReady")
		id := w.find(ctx).Status.Execution.ID
		w.host.SetEpoch(0)
		w.host.ClearJournal()
		w.begin()
		w.until(ctx, "Ready", w.ready(ctx))
		Expect(w.find(ctx).Status.History[0].ID).To(Equal(id))
		Expect(w.host.Journal()).To(Equal([]string{"start systemd/ledger.service"}))
	})
})
