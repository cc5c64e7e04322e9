package service

import (
	"fmt"
	"slices"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// NewRemoval says how the recorded things are removed from a host. It knows
// nothing of the spec: it works when that has become invalid.
func NewRemoval(owner machine.Owner, policy v1alpha1.DeletionPolicy, seen Observation) Plan {
	p := &planner{desired: &Desired{Owner: owner}, seen: seen}
	p.plan.Inventory = slices.Clone(seen.Inventory)
	p.remove(seen.Inventory, policy)
	return p.finish()
}

// RemovalChecks that the removal of recorded things needs.
func RemovalChecks(inventory []v1alpha1.ManagedThing) []machine.Check {
	var checks []machine.Check
	for _, thing := range inventory {
		switch thing.Kind {
		case KindFile:
			checks = append(checks, machine.File{Path: thing.Name})
		case KindSystemdUnit:
			checks = append(checks, unitChecks(thing.Name, thing.Defined)...)
		case KindWindowsService:
			checks = append(checks, machine.WindowsService{Name: windowsName(thing.Name)})
		}
		checks = append(checks, machine.Mark{Subject: subjectOf(thing)})
	}
	return checks
}

func subjectOf(thing v1alpha1.ManagedThing) machine.Subject {
	switch thing.Kind {
	case KindSystemdUnit:
		return unitOf(thing.Name).Subject()
	case KindWindowsService:
		return windowsServiceOf(thing.Name).Subject()
	case KindScript:
		return scriptSubject(thing.Name)
	default:
		return fileSubject(thing.Name)
	}
}

// Describe names a recorded thing for people.
func Describe(thing v1alpha1.ManagedThing) string {
	switch thing.Kind {
	case KindSystemdUnit:
		return "unit " + thing.Name
	case KindWindowsService:
		return "service " + thing.Name
	case KindScript:
		return "script " + thing.Name
	default:
		return "file " + thing.Name
	}
}

func find(inventory []v1alpha1.ManagedThing, subject machine.Subject) *v1alpha1.ManagedThing {
	for i := range inventory {
		if subjectOf(inventory[i]) == subject {
			return &inventory[i]
		}
	}
	return nil
}

// gone lists the recorded things that are no longer declared.
func (d *Desired) gone(inventory []v1alpha1.ManagedThing) []v1alpha1.ManagedThing {
	declared := map[machine.Subject]bool{}
	for _, f := range d.Files {
		declared[fileSubject(f.Path)] = true
	}
	if driver := d.driver(); driver != nil {
		declared[driver.service().Subject()] = true
	}
	if d.Script != nil {
		declared[scriptSubject(d.Owner.Object)] = true
	}
	var gone []v1alpha1.ManagedThing
	for _, thing := range inventory {
		if !declared[subjectOf(thing)] {
			gone = append(gone, thing)
		}
	}
	return gone
}

// dropGone removes what is recorded and no longer declared.
func (p *planner) dropGone() {
	p.remove(p.desired.gone(p.seen.Inventory), v1alpha1.DeletionDelete)
}

// remove goes backwards through what was recorded: services before the files that they read.
func (p *planner) remove(things []v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy) {
	for _, thing := range slices.Backward(things) {
		mark, ok := answerTo[machine.MarkState](p, machine.Mark{Subject: subjectOf(thing)}, "the mark of "+Describe(thing))
		if !ok {
			continue
		}
		if !mark.Exists || !isOwner(mark.Owner, p.desired.Owner) {
			p.passOver(thing, mark)
			continue
		}
		thing.Adopted = thing.Adopted || mark.Adopted
		switch thing.Kind {
		case KindFile:
			p.removeFile(thing, policy)
		case KindSystemdUnit:
			p.removeUnit(thing, policy)
		case KindWindowsService:
			p.removeWindowsService(thing, policy)
		case KindScript:
			p.removeScript(thing, policy)
		}
		p.release = append(p.release, machine.Release{Subject: subjectOf(thing), Owner: p.desired.Owner})
		if find(p.plan.Inventory, subjectOf(thing)) == nil {
			p.plan.Inventory = append(p.plan.Inventory, thing)
		}
	}
}

// passOver leaves alone what the host does not say is ours.
func (p *planner) passOver(thing v1alpha1.ManagedThing, mark machine.MarkState) {
	switch present, known := p.present(thing); {
	case !known || !present:
	case mark.Exists:
		p.plan.Notices = append(p.plan.Notices, fmt.Sprintf("%s is left alone: it belongs to ExternalService %s now", Describe(thing), mark.Owner.Object))
	default:
		p.plan.Notices = append(p.plan.Notices, Describe(thing)+" is left alone: the host has no record that it is ours")
	}
}

func (p *planner) present(thing v1alpha1.ManagedThing) (present, known bool) {
	switch thing.Kind {
	case KindSystemdUnit:
		unit, ok := p.seen.Answers[machine.Unit{Name: thing.Name}].(machine.UnitState)
		return unit.Load != "not-found" && unit.Load != "", ok
	case KindWindowsService:
		state, ok := p.seen.Answers[machine.WindowsService{Name: windowsName(thing.Name)}].(machine.WindowsServiceState)
		return state.Exists, ok
	case KindScript:
		mark, ok := p.seen.Answers[machine.Mark{Subject: subjectOf(thing)}].(machine.MarkState)
		return mark.Exists, ok // it is claimed before apply is run
	default:
		file, ok := p.seen.Answers[machine.File{Path: thing.Name}].(machine.FileState)
		return file.Kind != machine.FileAbsent, ok
	}
}

func (p *planner) removed(thing v1alpha1.ManagedThing, field, observed string) {
	p.change(field, "absent", observed)
	if thing.Adopted {
		p.plan.Notices = append(p.plan.Notices, Describe(thing)+" is removed although it was on the host before it was managed")
	}
}

func (p *planner) removeFile(thing v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy) {
	file, ok := answerTo[machine.FileState](p, machine.File{Path: thing.Name}, Describe(thing))
	if !ok || policy != v1alpha1.DeletionDelete {
		return
	}
	switch file.Kind {
	case machine.FileRegular, machine.FileSymlink:
		p.removed(thing, "files["+thing.Name+"]", "present")
		p.release = append(p.release, machine.RemoveFile{Path: thing.Name})
	case machine.FileDirectory, machine.FileOther:
		p.plan.Notices = append(p.plan.Notices, Describe(thing)+" is left alone: it is no file any longer")
	}
}

// stopsOnRemoval: a service whose state was never held, and which we did not define, is none of ours to stop.
func stopsOnRemoval(thing v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy) bool {
	held := thing.Defined || thing.State != v1alpha1.StateUnmanaged
	return policy == v1alpha1.DeletionStop || policy == v1alpha1.DeletionDelete && held
}

func (p *planner) stopForRemoval(thing v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy, service machine.Service, now current) {
	if !stopsOnRemoval(thing, policy) || now.state == Stopped || now.state == Failed || now.state == Absent {
		return
	}
	p.change("state", Stopped, now.state)
	p.leave = append(p.leave, machine.StopService{Service: service})
}

func (p *planner) removeUnit(thing v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy) {
	unit, ok := answerTo[machine.UnitState](p, machine.Unit{Name: thing.Name}, Describe(thing))
	if !ok {
		return
	}
	p.stopForRemoval(thing, policy, unitOf(thing.Name), currentUnit(unit))
	if policy != v1alpha1.DeletionDelete {
		return
	}
	if (thing.Defined || thing.Enabled) && slices.Contains(startsAtBoot, unit.Enabled) {
		p.change("systemd.enabled", "false", unit.Enabled)
		p.leave = append(p.leave, machine.DisableUnit{Unit: thing.Name})
	}
	if !thing.Defined {
		return
	}
	path := definitionPath(thing.Name)
	file, ok := answerTo[machine.FileState](p, machine.File{Path: path}, "unit file "+path)
	if ok && (file.Kind == machine.FileRegular || file.Kind == machine.FileSymlink) {
		p.removed(thing, "systemd.definition", "present")
		p.leave = append(p.leave, machine.RemoveFile{Path: path}, machine.ReloadUnits{})
	} else if ok && unit.NeedReload {
		p.leave = append(p.leave, machine.ReloadUnits{})
	}
}

func (p *planner) removeWindowsService(thing v1alpha1.ManagedThing, policy v1alpha1.DeletionPolicy) {
	state, ok := answerTo[machine.WindowsServiceState](p, machine.WindowsService{Name: windowsName(thing.Name)}, Describe(thing))
	if !ok {
		return
	}
	p.stopForRemoval(thing, policy, windowsServiceOf(thing.Name), currentWindowsService(state))
	if policy == v1alpha1.DeletionDelete && thing.Defined && state.Exists {
		p.removed(thing, "windowsService", "present")
		p.leave = append(p.leave, machine.DeleteWindowsService{Name: thing.Name})
	}
}
