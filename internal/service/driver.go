package service

import (
	"fmt"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// States of a service, in the words of status.observed.state. Other words are
// the service manager's own.
const (
	Running  = "Running"
	Stopped  = "Stopped"
	Starting = "Starting"
	Stopping = "Stopping"
	Failed   = "Failed"
	Absent   = "Absent"
)

// current is what a service manager says, in the words of this package.
type current struct {
	state     string
	instance  string // one start of the service
	pid       int
	startMode string
	since     string
	failure   string // what the service manager says of the last end, if it was not a success
}

func (c current) pending() bool { return c.state == Starting || c.state == Stopping }

// driver knows one kind of service manager.
type driver interface {
	// service is how the service is named in steps and marks.
	service() machine.Service
	// checks that tell its state and definition.
	checks() []machine.Check
	// current says what the service manager says; false if that is not known.
	current(p *planner) (current, bool)
	// plan adds what its definition and its start at boot need, and claims it.
	plan(p *planner, now current)
	// canStop tells whether a service in that state can be told to stop.
	canStop(state string) bool
}

func (d *Desired) driver() driver {
	switch {
	case d.Systemd != nil:
		return systemdDriver{d.Systemd}
	case d.Windows != nil:
		return windowsDriver{d.Windows}
	default:
		return nil
	}
}

// Checks that the plan of a desired state needs, with those of recorded things
// that are no longer declared.
func Checks(desired *Desired, inventory []v1alpha1.ManagedThing) []machine.Check {
	var checks []machine.Check
	for _, f := range desired.Files {
		checks = append(checks, machine.File{Path: f.Path}, machine.Mark{Subject: fileSubject(f.Path)})
	}
	if d := desired.driver(); d != nil {
		checks = append(checks, d.checks()...)
		checks = append(checks, machine.Mark{Subject: d.service().Subject()})
	}
	if desired.Script != nil {
		checks = append(checks, desired.Script.checks(desired.Owner)...)
	}
	return append(checks, RemovalChecks(desired.gone(inventory))...)
}

// planService brings the service into its desired state, after its files.
func (p *planner) planService(d driver) {
	now, ok := d.current(p)
	if !ok {
		return
	}
	d.plan(p, now)
	switch p.desired.State {
	case v1alpha1.StateRunning:
		p.hold(d, now)
	case v1alpha1.StateStopped:
		p.stop(d, now)
	}
}

// stop holds a service in the state Stopped.
func (p *planner) stop(d driver, now current) {
	switch {
	case now.state == Stopped || now.state == Failed || now.state == Absent:
	case now.state == Stopping || !d.canStop(now.state):
		p.plan.Waiting = fmt.Sprintf("%s is %s", d.service().Name, now.state)
	default:
		p.change("state", Stopped, now.state)
		if len(p.stopFirst) == 0 {
			p.state = append(p.state, machine.StopService{Service: d.service()})
		}
	}
}

// hold holds a service in the state Running, started with what it should be started with.
func (p *planner) hold(d driver, now current) {
	service, hash := d.service(), p.desired.StartHash
	mark, ok := answerTo[machine.MarkState](p, machine.Mark{Subject: service.Subject()}, "the mark of "+service.Name)
	if !ok {
		return
	}
	if !isOwner(mark.Owner, p.desired.Owner) {
		mark = machine.MarkState{} // it is about to be released
	}
	switch {
	case len(p.stopFirst) > 0:
		p.state = append(p.state, machine.StartService{Service: service, Hash: hash})
	case now.pending() && p.restart:
		// What it starts with is about to change, so the start under way is worth nothing.
		p.state = append(p.state, machine.RestartService{Service: service, Hash: hash})
	case now.pending():
		p.plan.Waiting = fmt.Sprintf("%s is %s", service.Name, now.state)
	case now.state == Running:
		p.keepRunning(service, mark, now.instance)
	case now.state == Stopped || now.state == Failed || now.state == Absent:
		p.change("state", Running, now.state)
		p.state = append(p.state, machine.StartService{Service: service, Hash: hash})
	default: // paused: a start resumes it
		p.change("state", Running, now.state)
		if p.restart {
			p.state = append(p.state, machine.RestartService{Service: service, Hash: hash})
			return
		}
		p.state = append(p.state, machine.StartService{Service: service, Hash: hash})
	}
}

// keepRunning restarts a running service if it was started with something else,
// and never only because nothing is known about its start.
func (p *planner) keepRunning(service machine.Service, mark machine.MarkState, instance string) {
	hash := p.desired.StartHash
	started := startedWith(mark, instance)
	switch {
	case p.restart:
		p.distrustInstance(service, mark, instance)
		p.state = append(p.state, machine.RestartService{Service: service, Hash: hash})
	case started == hash:
	case started != "":
		p.change("start", "started with what is declared", "started with what was declared before")
		p.state = append(p.state, machine.RestartService{Service: service, Hash: hash})
	case mark.Started != hash || mark.Pending != "":
		p.state = append(p.state, machine.RecordStart{Service: service, Hash: hash})
	}
}

// outdated is the mark of an instance that was started before something changed
// that it reads only when it starts.
const outdated = "outdated"

// distrustInstance writes down, before anything changes, that the instance which
// runs now will not have been started with what is declared. If the job ends
// between the change and the restart, the restart is not lost.
func (p *planner) distrustInstance(service machine.Service, mark machine.MarkState, instance string) {
	if started := startedWith(mark, instance); started == "" || started == p.desired.StartHash {
		p.distrust = append(p.distrust, machine.RecordStart{Service: service, Hash: outdated})
	}
}

// startedWith is the hash that an instance was started with, or empty if that
// is not known: somebody else started it.
func startedWith(mark machine.MarkState, instance string) string {
	switch {
	case instance == "":
		return ""
	case mark.Pending != "" && instance != mark.Before:
		return mark.Pending
	case instance == mark.Instance:
		return mark.Started
	default:
		return ""
	}
}

// holdBack waits with everything: no step is carried out in this plan.
func (p *planner) holdBack(waiting string) {
	p.held = waiting
}
