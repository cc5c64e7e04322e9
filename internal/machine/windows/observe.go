package windows

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// The reasons of a machine.Problem.
const (
	accessDenied = "AccessDenied"
	notSupported = "NotSupported"
	failed       = "Failed"
)

// pass is one observation.
type pass struct {
	m       *Machine
	answers map[machine.Check]machine.Answer
	// services, files and state are the checks that are left to answer;
	// state files are named by the checks that read them.
	services []machine.WindowsService
	files    []machine.File
	marks    []machine.Mark
	receipts []machine.JobReceipt
	scripts  []machine.Script
	host     clock
}

// Observe implements machine.Machine. It asks for the state files first and for
// the services last: a receipt that tells of a finished job is then never older
// than the state that the job has left.
func (m *Machine) Observe(ctx context.Context, checks []machine.Check) (machine.Observation, error) {
	if defect := m.defect.Load(); defect != nil {
		return machine.Observation{}, fmt.Errorf("carry out a job: %w", defect)
	}
	begun := time.Now()
	system, err := m.clock(ctx)
	if err != nil {
		return machine.Observation{}, fmt.Errorf("observe: %w", err)
	}
	p := &pass{m: m, answers: make(map[machine.Check]machine.Answer, len(checks)), host: system}
	for _, check := range checks {
		p.sort(check)
	}
	if err := p.readState(ctx); err != nil {
		return machine.Observation{}, fmt.Errorf("observe: %w", err)
	}
	scripts := p.beginScripts(ctx)
	for _, part := range []func(context.Context) error{p.readFiles, p.readServices, scripts.wait} {
		if err := part(ctx); err != nil {
			scripts.stop()
			return machine.Observation{}, fmt.Errorf("observe: %w", err)
		}
	}
	maps.Copy(p.answers, scripts.answers)
	return machine.Observation{BootID: system.boot, Answers: p.answers, Took: time.Since(begun)}, nil
}

// sort puts a check where it is answered; one that cannot be asked is answered here.
func (p *pass) sort(check machine.Check) {
	var err error
	switch c := check.(type) {
	case machine.WindowsService:
		if err = checkServiceName(c.Name); err == nil {
			p.services = append(p.services, c)
		}
	case machine.File:
		if err = checkPath(c.Path); err == nil {
			p.files = append(p.files, c)
		}
	case machine.Mark:
		p.marks = append(p.marks, c)
	case machine.JobReceipt:
		if err = checkJobID(c.ID); err == nil {
			p.receipts = append(p.receipts, c)
		}
	case machine.Script:
		p.scripts = append(p.scripts, c)
	default:
		p.answers[check] = machine.Problem{Reason: notSupported, Message: fmt.Sprintf("%T cannot be asked of a Windows host", check)}
	}
	if err != nil {
		p.answers[check] = machine.Problem{Reason: failed, Message: err.Error()}
	}
}

// problem turns a fault into the answer of the checks that it concerns. Any
// other error is about the connection and ends the pass.
func problem[C machine.Check](p *pass, checks []C, err error) error {
	var fault *winrm.Fault
	var unusable *scriptError
	if !errors.As(err, &fault) && !errors.As(err, &unusable) {
		return err
	}
	answer := machine.Problem{Reason: failed, Message: err.Error()}
	if fault != nil && (fault.Code == codeAccessDenied || strings.HasSuffix(fault.Subcode, ":AccessDenied")) {
		answer.Reason = accessDenied
	}
	for _, check := range checks {
		p.answers[check] = answer
	}
	return nil
}

// codeAccessDenied is ERROR_ACCESS_DENIED.
const codeAccessDenied = 5

func (p *pass) readServices(ctx context.Context) error {
	if len(p.services) == 0 {
		return nil
	}
	names := make([]string, len(p.services))
	for i, check := range p.services {
		names[i] = check.Name
	}
	found, err := p.m.services(ctx, names)
	if err != nil {
		return problem(p, p.services, err)
	}
	for _, check := range p.services {
		p.answers[check] = found[strings.ToLower(check.Name)].WindowsServiceState
	}
	return nil
}

// readState answers marks and receipts from the state files.
func (p *pass) readState(ctx context.Context) error {
	l := p.m.state
	paths := map[string]bool{}
	for _, check := range p.marks {
		paths[l.mark(check.Subject)] = true
	}
	for _, check := range p.receipts {
		paths[l.started(check.ID)] = true
		paths[l.exit(check.ID)] = true
	}
	underway := p.m.underway(p.receipts)
	contents, err := p.m.contents(ctx, slices.Sorted(maps.Keys(paths)))
	if err != nil {
		if err := problem(p, p.marks, err); err != nil {
			return err
		}
		return problem(p, p.receipts, err)
	}
	for _, check := range p.marks {
		p.answers[check] = answerMark(contents[l.mark(check.Subject)])
	}
	for _, check := range p.receipts {
		err := p.readReceipt(ctx, check, contents[l.started(check.ID)], contents[l.exit(check.ID)], underway)
		if err != nil {
			return err
		}
	}
	return nil
}

func answerMark(content string) machine.Answer {
	if content == "" {
		return machine.MarkState{}
	}
	mark, err := parseMark(content)
	if err != nil {
		return machine.Problem{Reason: failed, Message: err.Error()}
	}
	return mark
}

// readReceipt answers for a job. One that seems lost may have left a script behind that runs.
func (p *pass) readReceipt(ctx context.Context, check machine.JobReceipt, started, exit string, underway map[string]int) error {
	r, err := parseReceipt(started, exit)
	if err != nil {
		p.answers[check] = machine.Problem{Reason: failed, Message: err.Error()}
		return nil
	}
	state := p.m.withRunning(check.ID, r.JobState, underway)
	if state.Phase == machine.JobLost {
		if state, err = p.m.orphan(ctx, r, p.host); err != nil {
			return problem(p, []machine.JobReceipt{check}, err)
		}
	}
	p.answers[check] = state
	return nil
}

func (p *pass) readFiles(ctx context.Context) error {
	if len(p.files) == 0 {
		return nil
	}
	paths := make([]string, len(p.files))
	for i, check := range p.files {
		paths[i] = check.Path
	}
	digests, err := p.m.digests(ctx, paths)
	if err != nil {
		return problem(p, p.files, err)
	}
	for _, check := range p.files {
		p.answers[check] = digests[key(check.Path)]
	}
	return nil
}
