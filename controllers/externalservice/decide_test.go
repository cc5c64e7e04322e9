package externalservice

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

var (
	noon   = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	before = metav1.NewMicroTime(noon.Add(-time.Minute))
	work   = service.Plan{
		Changes: []service.Change{{Path: "state", Desired: "Running", Observed: "Stopped"}},
		Steps:   []machine.Step{machine.RemoveFile{Path: "/x"}},
	}
	scripted = service.Plan{
		Changes: []service.Change{{Path: "script", Desired: "InSync", Observed: "Differs (no table)"}},
		Steps:   []machine.Step{machine.Claim{}, machine.RunScript{}}, Applies: true, Differs: "Differs (no table)",
	}
	bookkeeping = service.Plan{Steps: []machine.Step{machine.RecordStart{Hash: "h"}}}
)

// base is a host that was brought into the state "new" and drifted.
func base() situation {
	return situation{
		object: "u1", record: &v1alpha1.ExternalServiceStatus{LastAppliedHash: "new"}, goal: "new",
		plan: work, observedAt: noon, policy: v1alpha1.DriftCorrect, now: noon,
	}
}

func execution(state v1alpha1.ExecutionState) *v1alpha1.Execution {
	observed := before
	return &v1alpha1.Execution{
		ID: "x1", Attempt: 2, DesiredHash: "new", State: state, ObservedAt: &observed,
		StartedAt: metav1.NewTime(noon.Add(-time.Minute)), Reason: becauseUpdate,
	}
}

func TestDecide(t *testing.T) {
	cases := map[string]struct {
		change func(*situation)
		want   func(*testing.T, action)
	}{
		"nothing to do": {func(s *situation) { s.plan = service.Plan{} }, isA[settled]},
		"create":        {func(s *situation) { s.record.LastAppliedHash = "" }, acts(becauseCreate, 1)},
		"update":        {func(s *situation) { s.record.LastAppliedHash = "old" }, acts(becauseUpdate, 1)},
		"drift":         {func(*situation) {}, acts(becauseDrift, 1)},
		"records only":  {func(s *situation) { s.plan = bookkeeping }, acts(becauseRecord, 1)},
		"removal":       {func(s *situation) { s.deleting, s.goal = true, "" }, acts(becauseDelete, 1)},

		"unknown part":         {func(s *situation) { s.plan = service.Plan{Unknown: "denied"} }, isA[blind]},
		"somebody else's":      {func(s *situation) { s.plan = service.Plan{Refused: &service.NotOursError{}} }, stops(v1alpha1.ReasonNotOurs)},
		"something in the way": {func(s *situation) { s.plan = service.Plan{Blocked: "masked"} }, stops(v1alpha1.ReasonBlocked)},
		"service starts":       {func(s *situation) { s.plan = service.Plan{Waiting: "starts"} }, waits(v1alpha1.ReasonWaiting)},
		"starts, and work":     {func(s *situation) { s.plan.Waiting = "starts" }, acts(becauseDrift, 1)},

		"report drift":         {func(s *situation) { s.policy = v1alpha1.DriftReport }, isA[report]},
		"report, new spec":     {func(s *situation) { s.policy, s.goal = v1alpha1.DriftReport, "newer" }, acts(becauseUpdate, 1)},
		"report, records":      {func(s *situation) { s.policy, s.plan = v1alpha1.DriftReport, bookkeeping }, acts(becauseRecord, 1)},
		"maintenance":          {func(s *situation) { s.maintenance = "Maintenance" }, isA[hold]},
		"maintenance, update":  {func(s *situation) { s.maintenance, s.goal = "Maintenance", "newer" }, isA[hold]},
		"maintenance, in sync": {func(s *situation) { s.maintenance, s.plan = "Maintenance", service.Plan{} }, isA[settled]},
		"maintenance, removal": {func(s *situation) { s.maintenance, s.deleting = "Maintenance", true }, isA[hold]},

		"six corrections":        {func(s *situation) { s.record.Corrections = corrections(6, time.Minute) }, acts(becauseDrift, 1)},
		"fight":                  {func(s *situation) { s.record.Corrections = corrections(7, time.Minute) }, stops(v1alpha1.ReasonFighting)},
		"fight stays":            {func(s *situation) { s.record.Corrections = corrections(7, 5*time.Hour) }, stops(v1alpha1.ReasonFighting)},
		"slow drift is no fight": {func(s *situation) { s.record.Corrections = corrections(6, 2*time.Hour) }, correctsWith(1)},
		"fight ends by request":  {func(s *situation) { s.record.Corrections, s.requested = corrections(7, time.Minute), true }, correctsWith(1)},
		"fight ends by new spec": {func(s *situation) { s.record.Corrections, s.goal = corrections(7, time.Minute), "newer" }, correctsWith(0)},
		"a retry is no correction": {func(s *situation) {
			s.record.Execution = execution(v1alpha1.ExecutionFailed)
			s.record.Corrections = corrections(3, time.Minute)
		}, correctsWith(3)},

		"job queued":          {inFlightWith(receipt{queued: true}), waits(v1alpha1.ReasonApplying)},
		"job runs":            {inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobRunning}}), waits(v1alpha1.ReasonApplying)},
		"no receipt read yet": {inFlightWith(receipt{}), waits(v1alpha1.ReasonApplying)},
		"receipt closed":      {inFlightWith(receipt{unread: "denied"}), isA[blind]},
		"receipt closed in an old look": {func(s *situation) {
			inFlightWith(receipt{unread: "denied"})(s)
			s.observedAt = before.Time
		}, waits(v1alpha1.ReasonApplying)},
		"absent in an old look": {func(s *situation) {
			inFlightWith(absent)(s)
			s.observedAt = before.Time
		}, waits(v1alpha1.ReasonApplying)},
		"absent": {inFlightWith(absent), acts(becauseDrift, 2)},
		"spec changed while a job runs": {func(s *situation) {
			inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobRunning}})(s)
			s.goal = "newer"
		}, waits(v1alpha1.ReasonApplying)},
		"not taken by the host": {func(s *situation) {
			inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobAbsent}, err: "no space"})(s)
			s.record.Execution.RetryAt = at(noon.Add(time.Minute))
		}, waits(v1alpha1.ReasonProgressingWithRetry)},
		"not taken by the host, later": {func(s *situation) {
			inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobAbsent}, err: "no space"})(s)
			s.record.Execution.RetryAt = at(noon)
		}, acts(becauseDrift, 2)},

		"succeeded, and all is well": {func(s *situation) {
			ended1(v1alpha1.ExecutionSucceeded, before.Time)(s)
			s.plan = service.Plan{}
		}, isA[settled]},
		"succeeded, seen before its end": {ended1(v1alpha1.ExecutionSucceeded, before.Time), looks},
		"succeeded, and drifted since":   {ended1(v1alpha1.ExecutionSucceeded, noon), acts(becauseDrift, 1)},
		"failed, back-off":               {failedUntil(noon.Add(time.Second)), waits(v1alpha1.ReasonProgressingWithRetry)},
		"failed, retry":                  {failedUntil(noon), acts(becauseDrift, 3)},
		"failed, mended by others": {func(s *situation) {
			failedUntil(noon.Add(time.Hour))(s)
			s.plan = service.Plan{}
		}, isA[settled]},
		"failed, new spec": {func(s *situation) {
			failedUntil(noon.Add(time.Hour))(s)
			s.goal = "newer"
		}, acts(becauseUpdate, 1)},
		"failed, asked for": {func(s *situation) {
			failedUntil(noon.Add(time.Hour))(s)
			s.requested = true
		}, acts(becauseDrift, 1)},
		"failed, then deleted": {func(s *situation) {
			failedUntil(noon.Add(time.Hour))(s)
			s.deleting, s.goal = true, ""
		}, acts(becauseDelete, 1)},
		"a Secret is missing":      {func(s *situation) { s.plan = service.Plan{Missing: "Secret x"} }, waits(v1alpha1.ReasonReferenceNotFound)},
		"differs without an apply": {func(s *situation) { s.plan = service.Plan{Unhandled: work.Changes} }, isA[differs]},
		"files first, then report": {func(s *situation) { s.plan.Unhandled = work.Changes }, acts(becauseDrift, 1)},

		"doubt":                        {inDoubt(nil), stops(v1alpha1.ReasonOutcomeUnknown)},
		"doubt, looked at before":      {inDoubt(func(s *situation) { s.observedAt = before.Time }), looks},
		"doubt, all is well":           {inDoubt(func(s *situation) { s.plan = service.Plan{} }), isA[settled]},
		"doubt, all was well before":   {inDoubt(func(s *situation) { s.plan, s.observedAt = service.Plan{}, before.Time }), looks},
		"doubt, not looked at":         {inDoubt(func(s *situation) { s.plan = service.Plan{Unknown: "denied"} }), isA[blind]},
		"doubt, asked for":             {inDoubt(func(s *situation) { s.requested = true }), acts(becauseDrift, 1)},
		"doubt, new spec":              {inDoubt(func(s *situation) { s.goal = "newer" }), stops(v1alpha1.ReasonOutcomeUnknown)},
		"doubt, then deleted":          {inDoubt(func(s *situation) { s.deleting, s.goal = true, "" }), acts(becauseDelete, 1)},
		"doubt, but only files differ": {inDoubt(func(s *situation) { s.plan = work }), acts(becauseDrift, 3)},
		"doubt about a removal": {inDoubt(func(s *situation) {
			s.deleting, s.goal, s.record.Execution.Reason, s.record.Execution.DesiredHash = true, "", becauseDelete, ""
		}), stops(v1alpha1.ReasonOutcomeUnknown)},
		"an idempotent script is repeated": {inDoubt(func(s *situation) {
			s.plan, s.record.Execution.Idempotent = service.Plan{Steps: []machine.Step{machine.RunScript{Idempotent: true}}}, nil
		}), acts(becauseRecord, 3)},

		"cancelled":               {ended1(v1alpha1.ExecutionCancelled, noon), stops(v1alpha1.ReasonCancelled)},
		"cancelled, not seen":     {ended1(v1alpha1.ExecutionCancelled, before.Time), looks},
		"cancelled, all is well":  {cancelledThen(func(s *situation) { s.plan = service.Plan{} }), isA[settled]},
		"cancelled, all was well": {cancelledThen(func(s *situation) { s.plan, s.observedAt = service.Plan{}, before.Time }), looks},
		"cancelled, new spec":     {cancelledThen(func(s *situation) { s.goal = "newer" }), acts(becauseUpdate, 1)},
		"cancelled, asked for":    {cancelledThen(func(s *situation) { s.requested = true }), acts(becauseDrift, 1)},
		"failed while it was cancelled": {func(s *situation) {
			failedUntil(noon)(s)
			s.record.Execution.CancelRequested = true
		}, stops(v1alpha1.ReasonCancelled)},
		"lost while it was cancelled": {func(s *situation) {
			ended1(v1alpha1.ExecutionUnknown, noon)(s)
			s.record.Execution.CancelRequested = true
		}, stops(v1alpha1.ReasonCancelled)},
		"succeeded while it was cancelled": {func(s *situation) {
			ended1(v1alpha1.ExecutionSucceeded, noon)(s)
			s.record.Execution.CancelRequested = true
		}, acts(becauseDrift, 1)},
		"doubt while it was cancelled": {inDoubt(func(s *situation) { s.record.Execution.CancelRequested = true }), stops(v1alpha1.ReasonOutcomeUnknown)},
		"cancelled by deletion":        {cancelledThen(func(s *situation) { s.deleting, s.goal = true, "" }), acts(becauseDelete, 1)},
		"cancelled by deletion, from an old look": {cancelledThen(func(s *situation) {
			s.deleting, s.goal, s.plan, s.observedAt = true, "", service.Plan{}, before.Time
		}), looks},
		"ended before its deletion, from an old look": {func(s *situation) {
			ended1(v1alpha1.ExecutionSucceeded, before.Time)(s)
			s.deleting, s.goal, s.plan = true, "", service.Plan{}
		}, looks},
		"being cancelled": {func(s *situation) {
			inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobRunning}})(s)
			s.record.Execution.CancelRequested = true
		}, func(t *testing.T, got action) {
			waits(v1alpha1.ReasonApplying)(t, got)
			require.Equal(t, cancelRepeat, got.(wait).after, "the host may not have heard of it")
		}},
		"a record from the future": {func(s *situation) {
			failedUntil(noon)(s)
			late := metav1.NewMicroTime(noon.Add(time.Hour))
			s.record.Execution.ObservedAt = &late
		}, acts(becauseDrift, 3)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := base()
			c.change(&s)
			c.want(t, decide(s))
		})
	}
}

// inDoubt is an execution of a script whose outcome is not known, and a fresh look at the host.
func inDoubt(change func(*situation)) func(*situation) {
	return func(s *situation) {
		ended1(v1alpha1.ExecutionUnknown, noon)(s)
		s.record.Execution.Idempotent = ptr.To(false)
		s.plan = scripted
		if change != nil {
			change(s)
		}
	}
}

func cancelledThen(change func(*situation)) func(*situation) {
	return func(s *situation) {
		ended1(v1alpha1.ExecutionCancelled, noon)(s)
		change(s)
	}
}

var absent = receipt{known: true, state: machine.JobState{Phase: machine.JobAbsent}}

func isA[A action](t *testing.T, got action) {
	t.Helper()
	require.IsType(t, *new(A), got)
}

func acts(because string, attempt int32) func(*testing.T, action) {
	return func(t *testing.T, got action) {
		t.Helper()
		isA[act](t, got)
		done := got.(act).execution
		require.Equal(t, because, done.Reason)
		require.Equal(t, attempt, done.Attempt)
		require.Equal(t, v1alpha1.ExecutionRequested, done.State)
		require.Regexp(t, `^x[0-9a-f]{40}$`, done.ID)
	}
}

func correctsWith(count int) func(*testing.T, action) {
	return func(t *testing.T, got action) {
		t.Helper()
		isA[act](t, got)
		require.Len(t, got.(act).corrections, count)
	}
}

func stops(reason string) func(*testing.T, action) {
	return func(t *testing.T, got action) {
		t.Helper()
		isA[stop](t, got)
		require.Equal(t, reason, got.(stop).reason)
	}
}

func waits(reason string) func(*testing.T, action) {
	return func(t *testing.T, got action) {
		t.Helper()
		isA[wait](t, got)
		require.Equal(t, reason, got.(wait).reason)
	}
}

func looks(t *testing.T, got action) {
	t.Helper()
	isA[wait](t, got)
	require.True(t, got.(wait).observe)
	require.NotZero(t, got.(wait).after)
}

func inFlightWith(r receipt) func(*situation) {
	return func(s *situation) {
		s.record.Execution, s.receipt = execution(v1alpha1.ExecutionRequested), r
	}
}

// ended1 is an execution that ended, and a look at the host at a time.
func ended1(state v1alpha1.ExecutionState, observedAt time.Time) func(*situation) {
	return func(s *situation) {
		s.record.Execution, s.observedAt = execution(state), observedAt
	}
}

func failedUntil(retry time.Time) func(*situation) {
	return func(s *situation) {
		s.record.Execution = execution(v1alpha1.ExecutionFailed)
		s.record.Execution.RetryAt = at(retry)
	}
}

func corrections(count int, ago time.Duration) []metav1.Time {
	var all []metav1.Time
	for range count {
		all = append(all, metav1.NewTime(noon.Add(-ago)))
	}
	return all
}

func TestIdentityOfJobs(t *testing.T) {
	first := decide(base()).(act).execution
	again := decide(base()).(act).execution
	require.Equal(t, first.ID, again.ID, "the same situation gives the same job")

	s := base()
	s.record.Executions++
	require.NotEqual(t, first.ID, decide(s).(act).execution.ID, "the same steps later are another job")

	s = base()
	s.object = "u2"
	require.NotEqual(t, first.ID, decide(s).(act).execution.ID)

	// A job that the host never heard of is submitted again under its id, and its time goes on.
	s = base()
	requested := first
	requested.StartedAt = metav1.NewTime(noon.Add(-time.Hour))
	requested.ObservedAt = &before
	s.record.Execution, s.receipt = &requested, absent
	repeated := decide(s).(act).execution
	require.Equal(t, first.ID, repeated.ID)
	require.Equal(t, requested.StartedAt, repeated.StartedAt)
	require.NotEqual(t, requested, repeated, "it differs from the record, so that a stale pass cannot write it")
}

func TestReceive(t *testing.T) {
	cases := map[string]struct {
		state   machine.JobState
		attempt int32
		outcome v1alpha1.ExecutionState
		applied string
		retry   time.Duration
		message string
	}{
		"succeeded":    {machine.JobState{Phase: machine.JobSucceeded}, 1, v1alpha1.ExecutionSucceeded, "new", 0, ""},
		"failed":       {machine.JobState{Phase: machine.JobFailed, ExitCode: 3, Step: 1, Message: "disk full"}, 1, v1alpha1.ExecutionFailed, "old", 10 * time.Second, "step 2 failed with exit code 3: disk full"},
		"failed again": {machine.JobState{Phase: machine.JobFailed, ExitCode: 3}, 4, v1alpha1.ExecutionFailed, "old", 80 * time.Second, "step 1"},
		"failed often": {machine.JobState{Phase: machine.JobFailed, ExitCode: 3}, 40, v1alpha1.ExecutionFailed, "old", 10 * time.Minute, "step 1"},
		"timed out":    {machine.JobState{Phase: machine.JobFailed, ExitCode: 124}, 1, v1alpha1.ExecutionFailed, "old", 10 * time.Second, "spec.timeout"},
		"lost":         {machine.JobState{Phase: machine.JobLost}, 1, v1alpha1.ExecutionUnknown, "old", 0, "without a receipt"},
		"named":        {machine.JobState{Phase: machine.JobFailed, ExitCode: 3, Step: 0, Message: "disk full"}, 1, v1alpha1.ExecutionFailed, "old", 10 * time.Second, "disk full"},
		"lost again":   {machine.JobState{Phase: machine.JobLost}, 2, v1alpha1.ExecutionUnknown, "old", 10 * time.Second, "without a receipt"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := base()
			s.record.LastAppliedHash = "old"
			inFlightWith(receipt{known: true, state: c.state})(&s)
			s.record.Execution.Attempt = c.attempt
			done := receive(s)
			require.NotNil(t, done)
			require.Equal(t, c.outcome, done.Outcome)
			require.Equal(t, c.outcome, s.record.Execution.State)
			require.Equal(t, c.applied, s.record.LastAppliedHash)
			require.Contains(t, s.record.Execution.Message, c.message)
			require.EqualValues(t, 1, s.record.Executions)
			require.Len(t, s.record.History, 1)
			require.True(t, s.record.Execution.ObservedAt.Time.Equal(noon))
			if c.outcome != v1alpha1.ExecutionSucceeded {
				require.Equal(t, noon.Add(c.retry), s.record.Execution.RetryAt.Time)
			}
			require.Nil(t, receive(s), "an outcome is received once")
		})
	}
}

func TestReceiveWithoutAnOutcome(t *testing.T) {
	s := base()
	inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobRunning}})(&s)
	require.Nil(t, receive(s))
	require.Equal(t, v1alpha1.ExecutionRunning, s.record.Execution.State)

	s = base()
	s.record.Execution = execution(v1alpha1.ExecutionRequested)
	s.receipt = receipt{known: true, state: machine.JobState{Phase: machine.JobAbsent}, err: "no space"}
	require.Nil(t, receive(s))
	require.Equal(t, "no space", s.record.Execution.Message)
	require.Equal(t, noon.Add(time.Minute), s.record.Execution.RetryAt.Time, "the time that it took so far is doubled")
	s.now = noon.Add(10 * time.Second)
	require.Nil(t, receive(s))
	require.Equal(t, noon.Add(time.Minute), s.record.Execution.RetryAt.Time, "and not moved by each pass")

	s = base()
	inFlightWith(receipt{})(&s)
	require.Nil(t, receive(s), "a receipt that was not read says nothing")
}

func TestHistoryKeepsFive(t *testing.T) {
	s := base()
	for range 7 {
		inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobSucceeded}})(&s)
		require.NotNil(t, receive(s))
	}
	require.Len(t, s.record.History, 5)
	require.EqualValues(t, 7, s.record.Executions)
}

func TestTimeless(t *testing.T) {
	require.Equal(t, "… orders[12]: at … failed", timeless("2026-01-02T12:13:14Z orders[12]: at 12:13:14.567 failed"))
	require.Equal(t, "nothing to hide 1:2", timeless("nothing to hide 1:2"))
}

func TestFailuresNameTheirStep(t *testing.T) {
	steps := []string{"put /etc/x.conf", "run spec.script.apply"}
	require.Equal(t, "run spec.script.apply failed with exit code 3: no", failure(machine.JobState{Step: 1, ExitCode: 3, Message: "no"}, steps))
	require.Equal(t, "put /etc/x.conf ran out of time (spec.timeout): slow", failure(machine.JobState{ExitCode: 124, Message: "slow"}, steps))
	require.Equal(t, "step 3 failed with exit code 1: no", failure(machine.JobState{Step: 2, ExitCode: 1, Message: "no"}, steps))
	require.Equal(t, []string{"write down who manages ", "run spec.script.apply"}, scripted.Names())
}

func TestReceiveCancelled(t *testing.T) {
	s := base()
	s.record.LastAppliedHash = "old"
	inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobCancelled, Step: 1}})(&s)
	s.record.Execution.Steps = []string{"put /etc/x.conf", "run spec.script.apply"}
	done := receive(s)
	require.Equal(t, v1alpha1.ExecutionCancelled, done.Outcome)
	require.Equal(t, "cancelled on the host during: run spec.script.apply; the steps before are done", s.record.Execution.Message)
	require.Nil(t, s.record.Execution.RetryAt)
	require.Equal(t, "old", s.record.LastAppliedHash)
	require.Nil(t, receive(s), "an outcome is received once")

	s = base()
	inFlightWith(absent)(&s)
	require.Nil(t, receive(s), "nobody cancelled it")
	s.record.Execution.CancelRequested = true
	s.receipt.queued = true
	require.Nil(t, receive(s), "it is on its way")
	s.receipt.queued = false
	s.observedAt = before.Time
	require.Nil(t, receive(s), "it may have arrived since")
	s.observedAt = noon
	require.Equal(t, v1alpha1.ExecutionCancelled, receive(s).Outcome)
	require.Contains(t, s.record.Execution.Message, "nothing was done")
}

func TestWhatALostScriptLeavesToSay(t *testing.T) {
	s := base()
	inFlightWith(receipt{known: true, state: machine.JobState{Phase: machine.JobLost, Started: "2026-01-02T03:04:05Z", BootID: "b-1"}})(&s)
	s.record.Execution.Idempotent = ptr.To(false)
	require.Equal(t, v1alpha1.ExecutionUnknown, receive(s).Outcome)
	require.Contains(t, s.record.Execution.Message, "began on the host at 2026-01-02T03:04:05Z by its clock, in its boot b-1,")
}

func TestApplyThatDoesNotHelp(t *testing.T) {
	applied := func() situation {
		s := base()
		s.plan = scripted
		ended1(v1alpha1.ExecutionSucceeded, noon)(&s)
		s.record.Execution.Applies = true
		s.record.History = []v1alpha1.ExecutionRecord{{ID: "x1", Outcome: v1alpha1.ExecutionSucceeded}}
		return s
	}
	s := applied()
	done := disappoint(s)
	require.Equal(t, v1alpha1.ExecutionFailed, done.Outcome)
	require.Equal(t, "spec.script.apply succeeded, and spec.script.observe still says Differs (no table)", s.record.Execution.Message)
	require.Equal(t, noon.Add(20*time.Second), s.record.Execution.RetryAt.Time, "of the second attempt")
	require.Equal(t, v1alpha1.ExecutionFailed, s.record.History[0].Outcome)
	waits(v1alpha1.ReasonProgressingWithRetry)(t, decide(s))
	require.Nil(t, disappoint(s), "once")

	for name, change := range map[string]func(*situation){
		"an old look":       func(s *situation) { s.observedAt = before.Time },
		"all is well":       func(s *situation) { s.plan = service.Plan{} },
		"another spec":      func(s *situation) { s.goal = "newer" },
		"deleted":           func(s *situation) { s.deleting = true },
		"it ran no script":  func(s *situation) { s.record.Execution.Applies = false },
		"it failed already": func(s *situation) { s.record.Execution.State = v1alpha1.ExecutionFailed },
	} {
		s := applied()
		change(&s)
		require.Nil(t, disappoint(s), name)
	}
}
