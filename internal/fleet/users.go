package fleet

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// ensure returns the record of an object, made if need be. The caller holds mu.
func (l *link) ensure(object Object) *user {
	u, ok := l.users[object]
	if !ok {
		u = &user{jobs: map[string]*stage{}, errors: map[string]string{}}
		l.users[object] = u
	}
	return u
}

func (l *link) watch(object Object, watch Watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.ensure(object)
	before := u.watch
	u.watch = Watch{
		Checks:   slices.Clone(watch.Checks),
		Probes:   slices.Clone(watch.Probes),
		Interval: watch.Interval,
	}
	if !u.watching {
		u.watching = true
		l.status.Users++
	}
	if !slices.Equal(before.Checks, watch.Checks) {
		l.collect()
		if added, _ := compare(u.unasked(before.Checks), u.unasked(watch.Checks)); added {
			u.complete, u.revision = false, l.revision
			l.wanted = l.revision
			l.lookSoon()
		}
	}
	if added, removed := compare(before.Probes, watch.Probes); added || removed {
		l.collectProbes()
	}
	if watch.Interval != before.Interval {
		l.replan()
	}
	l.settle()
}

// unasked leaves out the receipts of jobs that are on their way: there is nothing
// to see of them until they are handed over, and then the host is looked at anyway.
func (u *user) unasked(checks []machine.Check) []machine.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(check machine.Check) bool {
		receipt, ok := check.(machine.JobReceipt)
		return ok && u.jobs[receipt.ID] != nil
	})
}

// gathering waits so long for more objects that want to be looked at: they often come together.
const gathering = 20 * time.Millisecond

// lookSoon makes a pass soon unless the link is held back by something.
func (l *link) lookSoon() {
	if soon := l.now().Add(gathering); l.status.State == Connected && l.passing == nil && soon.Before(l.nextPass) {
		l.nextPass = soon
	}
}

func (l *link) unwatch(object Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, ok := l.users[object]
	if !ok {
		return
	}
	delete(l.users, object)
	if u.watching {
		l.status.Users--
	}
	l.queue = slices.DeleteFunc(l.queue, func(q *queued) bool { return q.object == object })
	l.forgetCancels(func(c *cancellation) bool { return c.object == object })
	l.collect()
	l.collectProbes()
	l.settle()
}

// collect makes the union of all checks anew, and drops answers that nobody
// asks for any longer. Objects come in a fixed order, so that a host with too
// many checks leaves out the same ones each time.
func (l *link) collect() {
	l.revision++
	l.checks = nil
	l.beyond = nil
	seen := map[machine.Check]bool{}
	for _, object := range sortedObjects(l.users) {
		for _, check := range l.users[object].checks() {
			if seen[check] {
				continue
			}
			seen[check] = true
			if len(l.checks) < maxChecks {
				l.checks = append(l.checks, check)
				continue
			}
			if l.beyond == nil {
				l.beyond = map[machine.Check]bool{}
			}
			l.beyond[check] = true
		}
	}
	maps.DeleteFunc(l.answers, func(check machine.Check, _ machine.Answer) bool { return !seen[check] })
	maps.DeleteFunc(l.prints, func(check machine.Check, _ uint64) bool { return !seen[check] })
}

// checks that the link asks for an object.
func (u *user) checks() []machine.Check {
	if len(u.receipts) == 0 {
		return u.watch.Checks
	}
	all := slices.Clone(u.watch.Checks)
	for _, id := range u.receipts {
		all = append(all, machine.JobReceipt{ID: id})
	}
	return all
}

func (l *link) objects() []Object {
	l.mu.Lock()
	defer l.mu.Unlock()
	watching := map[Object]*user{}
	for object, u := range l.users {
		if u.watching {
			watching[object] = u
		}
	}
	return sortedObjects(watching)
}

func (l *link) view(object Object) View {
	l.mu.Lock()
	defer l.mu.Unlock()
	view := View{Host: l.status, BootID: l.bootID, Address: l.address}
	u, ok := l.users[object]
	if !ok {
		return view
	}
	view.Complete, view.ObservedAt = u.complete, u.observedAt
	view.Answers = make(map[machine.Check]machine.Answer, len(u.watch.Checks))
	for _, check := range u.checks() {
		if answer, ok := l.answers[check]; ok {
			view.Answers[check] = answer
		}
	}
	view.Probes = make(map[Probe]ProbeState, len(u.watch.Probes))
	for _, probe := range u.watch.Probes {
		if p, ok := l.probes[probe]; ok {
			view.Probes[probe] = p.state
		}
	}
	view.Queued = slices.Sorted(maps.Keys(u.jobs))
	view.JobErrors = maps.Clone(u.errors)
	return view
}

// learnAnswers takes over what a pass found, and marks the objects that it matters to.
func (l *link) learnAnswers(found map[machine.Check]machine.Answer, prints map[machine.Check]uint64, asked question) {
	changed := map[machine.Check]bool{}
	for _, check := range l.checks {
		answer, ok := found[check]
		if ok && l.answers[check] != answer {
			l.answers[check] = own(answer)
			changed[check] = true
		}
		if print, speaks := prints[check]; speaks {
			l.prints[check] = print
		} else if ok {
			delete(l.prints, check)
		}
	}
	for check := range l.beyond {
		answer := machine.Problem{Reason: "TooMany", Message: fmt.Sprintf("the host has more than %d checks", maxChecks)}
		if l.answers[check] != machine.Answer(answer) {
			l.answers[check] = answer
			changed[check] = true
		}
	}
	for _, u := range l.users {
		u.learn(changed, asked)
	}
}

func (u *user) learn(changed map[machine.Check]bool, asked question) {
	if u.revision <= asked.revision {
		u.observedAt = asked.at
		u.changed = u.changed || !u.complete
		u.complete = true
	}
	if len(changed) > 0 {
		for _, check := range u.checks() {
			u.changed = u.changed || changed[check]
		}
	}
	for id, job := range u.jobs {
		if job.handed && job.after < asked.pass {
			delete(u.jobs, id)
			u.changed = true
		}
	}
}

// compare tells whether the set b has what a has not, and the other way round.
func compare[T comparable](a, b []T) (added, removed bool) {
	if slices.Equal(a, b) {
		return false, false
	}
	before, after := map[T]bool{}, map[T]bool{}
	for _, item := range a {
		before[item] = true
	}
	for _, item := range b {
		after[item] = true
		added = added || !before[item]
	}
	for item := range before {
		removed = removed || !after[item]
	}
	return added, removed
}
