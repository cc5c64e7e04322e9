package service

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// States of a component that is managed by scripts, in status.observed.state.
const (
	InSync  = "InSync"
	Differs = "Differs"
)

// Script is a component that scripts look at, put right and remove.
type Script struct {
	Observe     string
	Apply       string `json:",omitempty"`
	Remove      string `json:",omitempty"`
	Interpreter string `json:",omitempty"`
	Environment []machine.Variable
	// EnvironmentSHA256 stands for the values, which print as a constant.
	EnvironmentSHA256 string
	Timeout           time.Duration
	Idempotent        bool

	// declared is the environment as it is recorded for removal: without the values of Secrets.
	declared []v1alpha1.EnvironmentVariable
	secrets  []machine.Secret
}

func (s *Script) check() machine.Script {
	return machine.Script{
		Interpreter: s.Interpreter,
		Text:        machine.Confidential(s.Observe),
		Environment: machine.EncodeEnvironment(s.Environment),
		Timeout:     s.Timeout,
	}
}

// checks that tell the component's state, and whether apply is owed.
func (s *Script) checks(owner machine.Owner) []machine.Check {
	return []machine.Check{
		s.check(), machine.Mark{Subject: scriptSubject(owner.Object)}, machine.Mark{Subject: dueSubject(owner.Object)},
	}
}

// verdict is what observe says.
type verdict struct {
	differs bool
	line    string // the last that it printed
	unknown string // why it says nothing
}

func (s *Script) verdict(answers map[machine.Check]machine.Answer) verdict {
	switch answer := answers[s.check()].(type) {
	case machine.ScriptState:
		line := lastLine(answer.Output)
		if answer.ExitCode != 0 && answer.ExitCode != 1 {
			return verdict{line: line, unknown: fmt.Sprintf(
				"spec.script.observe does not say how things are: it ended with exit code %d (0: as it should be, 1: differs)%s", answer.ExitCode, after(line))}
		}
		return verdict{differs: answer.ExitCode == 1, line: line}
	case machine.Problem:
		return verdict{unknown: "spec.script.observe does not say how things are" + after(answer.Message)}
	default:
		return verdict{unknown: "spec.script.observe has not been run yet"}
	}
}

// String is the verdict in words: "Differs (no such table)".
func (v verdict) String() string {
	word := InSync
	if v.differs {
		word = Differs
	}
	if v.line == "" {
		return word
	}
	return word + " (" + v.line + ")"
}

// after appends what there is to say.
func after(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// lastLine that is not blank, without what moves a cursor, and at most 512 bytes of it.
func lastLine(output string) string {
	const most = 512
	last := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(strings.Map(printable, line))
		if line != "" {
			last = line
		}
	}
	if len(last) > most {
		last = strings.ToValidUTF8(last[:most], "") + "…"
	}
	return last
}

func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case r < ' ' || r == 0x7f:
		return -1
	}
	return r
}

// planScript runs apply if the component differs, or if a file changed that apply
// has to see. That is written down before the file changes (the mark "due") and
// struck out after apply has run, so that it is not lost in between.
func (p *planner) planScript(s *Script) {
	object := p.desired.Owner.Object
	seen := s.verdict(p.seen.Answers)
	if seen.unknown != "" {
		p.unknown = append(p.unknown, seen.unknown)
	}
	mark, known := answerTo[machine.MarkState](p, machine.Mark{Subject: scriptSubject(object)}, "the mark of script "+object)
	due, dueKnown := answerTo[machine.MarkState](p, machine.Mark{Subject: dueSubject(object)}, "the mark of what is due to script "+object)
	if !known || !dueKnown || seen.unknown != "" {
		return
	}
	if s.Apply != "" || mark.Exists && isOwner(mark.Owner, p.desired.Owner) {
		p.own(scriptSubject(object), "script "+object, s.thing(object), !seen.differs, false)
	}
	if s.Apply == "" {
		if seen.differs {
			p.plan.Unhandled = append(p.plan.Unhandled, Change{Path: "script", Desired: InSync, Observed: seen.String()})
		}
		return
	}
	p.planApply(s, seen, due)
}

func (p *planner) planApply(s *Script, seen verdict, due machine.MarkState) {
	owner := p.desired.Owner
	subject := dueSubject(owner.Object)
	if due.Exists && isPredecessor(due.Owner, owner) {
		p.claim = append(p.claim, machine.Release{Subject: subject, Owner: due.Owner})
	}
	owed := due.Exists && isOwner(due.Owner, owner)
	switch {
	case seen.differs:
		p.plan.Differs = seen.String()
		p.change("script", InSync, seen.String())
	case p.restart || owed:
		p.change("script", "applied with the files that are declared", "applied with earlier ones")
	default:
		return
	}
	if p.restart && !owed {
		p.distrust = append(p.distrust, machine.Claim{Subject: subject, Owner: owner})
	}
	p.plan.Applies = true
	p.plan.Secrets = append(p.plan.Secrets, s.secrets...)
	p.state = append(p.state, runScript(s.Interpreter, s.Apply, s.Environment, s.Idempotent))
	if p.restart || owed {
		p.state = append(p.state, machine.Release{Subject: subject, Owner: owner})
	}
}

// thing is what is recorded of the component before anything is done about it.
func (s *Script) thing(object string) v1alpha1.ManagedThing {
	recorded := &v1alpha1.RecordedScript{}
	if s.Remove != "" {
		recorded = &v1alpha1.RecordedScript{Remove: s.Remove, Interpreter: s.Interpreter, Environment: s.declared, Idempotent: s.Idempotent}
	}
	return v1alpha1.ManagedThing{Kind: KindScript, Name: object, Defined: true, Script: recorded}
}

func runScript(interpreter, text string, environment []machine.Variable, idempotent bool) machine.RunScript {
	return machine.RunScript{
		Interpreter: interpreter,
		Text:        machine.Secret(text),
		Environment: environment,
		Digest:      digestOf([]string{interpreter, text, digestEnvironment(environment)}),
		Idempotent:  idempotent,
	}
}

func digestEnvironment(environment []machine.Variable) string {
	return digestBytes([]byte(machine.EncodeEnvironment(environment)))
}

// removeScript runs the recorded remove script; without one the component stays, and that is said.
func (p *planner) removeScript(thing v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy) {
	p.release = append(p.release, machine.Release{Subject: dueSubject(thing.Name), Owner: p.desired.Owner})
	switch {
	case policy != v1alpha1.DeletionDelete:
		return
	case thing.Script == nil || thing.Script.Remove == "":
		p.change("script", "left behind, because no spec.script.remove was declared", "applied")
		p.plan.Notices = append(p.plan.Notices, "what "+Describe(thing)+" applied is left behind on the host: no spec.script.remove was declared")
		return
	}
	environment, ok := p.recorded(thing)
	if !ok {
		return
	}
	p.removed(thing, "script", "applied")
	p.leave = append(p.leave, runScript(thing.Script.Interpreter, thing.Script.Remove, environment, thing.Script.Idempotent))
}

// recorded resolves the environment that was recorded for a removal.
func (p *planner) recorded(thing v1alpha1.ManagedThing) (environment []machine.Variable, ok bool) {
	ok = true
	for _, declared := range thing.Script.Environment {
		variable := machine.Variable{Name: declared.Name}
		if reference := declared.SecretKeyRef; reference != nil {
			value, found := p.seen.Values[*reference]
			problem := checkValue(value)
			if !found {
				problem = "it is not there"
			}
			if problem != "" {
				p.missing = append(p.missing, fmt.Sprintf("the recorded remove script of %s needs key %q of Secret %s for %s: %s",
					Describe(thing), reference.Key, reference.Name, declared.Name, problem))
				ok = false
				continue
			}
			variable.Value = machine.Secret(value)
			p.plan.Secrets = append(p.plan.Secrets, secretsOf(variable.Value)...)
		} else if declared.Value != nil {
			variable.Value = machine.Secret(*declared.Value)
		}
		environment = append(environment, variable)
	}
	return environment, ok
}

// RemovalSecrets lists the keys of Secrets that the removal of recorded things may need.
func RemovalSecrets(things []v1alpha1.ManagedThing) []v1alpha1.KeyReference {
	var references []v1alpha1.KeyReference
	for _, thing := range things {
		if thing.Kind != KindScript || thing.Script == nil {
			continue
		}
		for _, variable := range thing.Script.Environment {
			if variable.SecretKeyRef != nil {
				references = append(references, *variable.SecretKeyRef)
			}
		}
	}
	return references
}

// Gone lists the recorded things that a desired state no longer declares.
func Gone(desired *Desired, inventory []v1alpha1.ManagedThing) []v1alpha1.ManagedThing {
	return desired.gone(inventory)
}
