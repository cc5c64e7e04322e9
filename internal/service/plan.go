package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Change is one difference between what is declared and what is there. Values
// are for people: contents appear as digests, confidential ones not at all.
type Change struct {
	Path     string
	Desired  string
	Observed string
}

// String is how a change is shown in events.
func (c Change) String() string {
	return fmt.Sprintf("%s: %s -> %s", c.Path, orNone(c.Observed), orNone(c.Desired))
}

func orNone(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

// NotOursError says that something on the host belongs to somebody else, or
// was there before and may not be taken over.
type NotOursError struct{ Problems []string }

func (e *NotOursError) Error() string { return strings.Join(e.Problems, "; ") }

// Plan is what is to be done about one object on its host.
type Plan struct {
	// Changes are the differences that Steps remove.
	Changes []Change
	// Steps in order; none if the host is as declared, or must not be touched.
	// There may be steps without changes: records on the host, which touch no service.
	Steps []machine.Step
	// Downloads are the contents that the operator fetches for PlaceFile steps.
	Downloads []Blob
	// Applies: the steps run spec.script.apply.
	Applies bool
	// Differs is what spec.script.observe says, if Steps are to put that right.
	Differs string
	// Unhandled are differences that no step removes: there is no spec.script.apply.
	Unhandled []Change
	// Secrets are the values that a receipt must not show.
	Secrets []machine.Secret
	// Inventory is all that is, or will be, on the host because of the object.
	Inventory []v1alpha1.ManagedThing
	// Notices say what a user should hear besides the changes: what is adopted, what is left behind.
	Notices []string
	// Missing says what the steps need and is not in the cluster; it is waited for.
	Missing string
	// Waiting says what the service manager is doing just now; it is waited for.
	Waiting string
	// Unknown says which question about the host was not answered: nothing is done.
	Unknown string
	// Blocked says why the host cannot be brought into the desired state: a person must act.
	Blocked string
	// Refused is a *NotOursError: nothing is done.
	Refused error
}

// Observation is what is known when a plan is made.
type Observation struct {
	// Answers to the checks of the desired state and of the inventory.
	Answers map[machine.Check]machine.Answer
	// Inventory that was recorded earlier.
	Inventory []v1alpha1.ManagedThing
	// Values of the Secrets that RemovalSecrets names, as far as they are there.
	Values map[v1alpha1.KeyReference][]byte
}

// Blob is content that the operator has to fetch.
type Blob struct {
	URL     string
	SHA256  string
	MaxSize int64
}

// NewPlan compares the desired state with an observation.
func NewPlan(desired *Desired, seen Observation) Plan {
	p := &planner{desired: desired, seen: seen}
	p.dropGone()
	for _, f := range desired.Files {
		p.planFile(f)
	}
	if d := desired.driver(); d != nil {
		p.planService(d)
	}
	if desired.Script != nil {
		p.planScript(desired.Script)
	}
	return p.finish()
}

// planner collects the steps of a plan in the phases in which they are carried out.
type planner struct {
	desired *Desired
	seen    Observation
	plan    Plan

	unknown, blocked, refused, missing []string

	leave     []machine.Step // services that are no longer declared: stop, disable, undefine
	claim     []machine.Step
	distrust  []machine.Step // the running instance will be outdated
	stopFirst []machine.Step // a program cannot be replaced while it runs
	files     []machine.Step
	define    []machine.Step
	reload    bool
	enable    []machine.Step
	state     []machine.Step
	release   []machine.Step // files that are no longer declared, and released claims

	// restart: something changes that the service reads only when it starts.
	restart bool
	// held says why all of it has to wait.
	held string
}

func (p *planner) change(path, desired, observed string) {
	p.plan.Changes = append(p.plan.Changes, Change{Path: path, Desired: desired, Observed: observed})
}

func (p *planner) finish() Plan {
	plan := p.plan
	if p.reload {
		p.define = append(p.define, machine.ReloadUnits{})
	}
	plan.Unknown, plan.Blocked, plan.Missing = joined(p.unknown), joined(p.blocked), joined(p.missing)
	if len(p.refused) > 0 {
		slices.Sort(p.refused)
		plan.Refused = &NotOursError{Problems: p.refused}
	}
	if plan.Unknown != "" || plan.Blocked != "" || plan.Missing != "" || plan.Refused != nil {
		plan.Secrets, plan.Downloads = nil, nil
		return plan
	}
	if p.held != "" {
		plan.Waiting = p.held
		return plan
	}
	plan.Steps = slices.Concat(p.leave, p.claim, p.distrust, p.stopFirst, p.files, p.define, p.enable, p.state, p.release)
	return plan
}

func joined(problems []string) string {
	slices.Sort(problems)
	return strings.Join(problems, "; ")
}

// answerTo returns the answer to a check as the type that it must have. What
// was not answered makes the whole plan unknown: a part is never guessed.
func answerTo[A machine.Answer](p *planner, check machine.Check, what string) (A, bool) {
	var none A
	switch answer := p.seen.Answers[check].(type) {
	case A:
		return answer, true
	case machine.Problem:
		p.unknown = append(p.unknown, fmt.Sprintf("%s cannot be looked at: %s", what, answer.Message))
	default:
		p.unknown = append(p.unknown, what+" has not been looked at yet")
	}
	return none, false
}

// own decides whether a subject may be changed, and claims it if need be.
// exists: it is on the host; differs: in a way that taking it over would change.
func (p *planner) own(subject machine.Subject, what string, thing v1alpha1.ManagedThing, exists, differs bool) {
	mark, ok := answerTo[machine.MarkState](p, machine.Mark{Subject: subject}, "the mark of "+what)
	if !ok {
		return
	}
	owner := p.desired.Owner
	adopt := p.desired.Adoption == v1alpha1.AdoptionAdopt
	switch {
	case mark.Exists && isOwner(mark.Owner, owner):
		thing.Adopted = mark.Adopted
	case mark.Exists && !(isPredecessor(mark.Owner, owner) && adopt):
		p.refused = append(p.refused, refusal(what, mark.Owner, owner))
		return
	case !mark.Exists && exists && differs && !adopt:
		p.refused = append(p.refused, what+" is on the host already, differs, and is not ours: set spec.adoption to Adopt to take it over, or remove it from the host")
		return
	default:
		if mark.Exists {
			p.claim = append(p.claim, machine.Release{Subject: subject, Owner: mark.Owner})
		}
		thing.Adopted = exists
		p.claim = append(p.claim, machine.Claim{Subject: subject, Owner: owner, Adopted: exists})
		if exists {
			p.plan.Notices = append(p.plan.Notices, what+" was on the host already and is managed from now on")
		}
	}
	p.plan.Inventory = append(p.plan.Inventory, thing)
}

func isOwner(a, b machine.Owner) bool { return a.Cluster == b.Cluster && a.UID == b.UID }

// isPredecessor: an object of the same name in the same cluster with another
// UID has been deleted, so taking over from it takes nothing from anybody.
func isPredecessor(a, b machine.Owner) bool {
	return a.Cluster == b.Cluster && a.Object == b.Object && a.UID != b.UID
}

func refusal(what string, other, us machine.Owner) string {
	if isPredecessor(other, us) {
		return fmt.Sprintf("%s was left behind by a deleted ExternalService of the same name, %s: set spec.adoption to Adopt to take it over", what, other.Object)
	}
	cluster := "of this cluster"
	if other.Cluster != us.Cluster {
		cluster = "of another cluster (" + other.Cluster + ")"
	}
	return fmt.Sprintf("%s is managed by ExternalService %s %s: remove it there first", what, other.Object, cluster)
}
