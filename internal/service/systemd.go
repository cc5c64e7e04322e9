package service

import (
	"fmt"
	"slices"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// systemdDriver speaks of a unit in the words of systemctl show.
type systemdDriver struct{ desired *SystemdUnit }

func (s systemdDriver) service() machine.Service { return unitOf(s.desired.Unit) }

func (s systemdDriver) checks() []machine.Check {
	return unitChecks(s.desired.Unit, s.desired.Definition != nil)
}

func unitChecks(unit string, defined bool) []machine.Check {
	checks := []machine.Check{machine.Unit{Name: unit}}
	if defined {
		checks = append(checks, machine.File{Path: definitionPath(unit)})
	}
	return checks
}

func (s systemdDriver) current(p *planner) (current, bool) {
	unit, ok := answerTo[machine.UnitState](p, machine.Unit{Name: s.desired.Unit}, s.desired.Unit)
	return currentUnit(unit), ok
}

func currentUnit(unit machine.UnitState) current {
	c := current{
		state:     unitStateWord(unit),
		instance:  unit.Instance,
		pid:       unit.MainPID,
		startMode: unit.Enabled,
		since:     unit.Since,
	}
	if unit.Result != "" && unit.Result != "success" {
		c.failure = unit.Result
	}
	return c
}

// unitStateWord follows the states of a unit in systemd(1); reloading is running.
func unitStateWord(unit machine.UnitState) string {
	switch unit.Active {
	case "active", "reloading", "refreshing":
		return Running
	case "activating":
		return Starting
	case "deactivating":
		return Stopping
	case "failed":
		return Failed
	case "inactive", "":
		if unit.Load == "not-found" || unit.Load == "" {
			return Absent
		}
		return Stopped
	default:
		return unit.Active
	}
}

// canStop: systemd takes a stop at any time, also while a unit is being restarted for ever.
func (s systemdDriver) canStop(string) bool { return true }

func (s systemdDriver) plan(p *planner, now current) {
	unit, ok := answerTo[machine.UnitState](p, machine.Unit{Name: s.desired.Unit}, s.desired.Unit)
	if !ok {
		return
	}
	thing := v1alpha1.ManagedThing{Kind: KindSystemdUnit, Name: s.desired.Unit, State: p.desired.State}
	thing.Enabled = s.desired.Enabled != nil && *s.desired.Enabled
	if earlier := find(p.seen.Inventory, s.service().Subject()); earlier != nil {
		thing.Defined = earlier.Defined
	}
	exists := unit.Load != "not-found" && unit.Load != ""
	if s.desired.Definition == nil {
		s.needInstalled(p, unit)
		p.own(s.service().Subject(), "unit "+s.desired.Unit, thing, exists, false)
	} else {
		thing.Defined = true
		present, differs, ok := s.planDefinition(p)
		if !ok {
			return
		}
		p.own(s.service().Subject(), "unit "+s.desired.Unit, thing, exists || present, differs)
	}
	if unit.NeedReload && !p.reload {
		p.change("systemd.reload", "loaded", "the unit file changed since it was loaded")
		p.reload = true
	}
	s.planEnabled(p, unit)
}

// needInstalled: without a definition the unit must come from elsewhere.
func (s systemdDriver) needInstalled(p *planner, unit machine.UnitState) {
	needed := p.desired.State == v1alpha1.StateRunning || s.desired.Enabled != nil
	switch {
	case unit.Load == "not-found" && needed:
		p.blocked = append(p.blocked, fmt.Sprintf("unit %s is not on the host: install the package that brings it, or give spec.systemd.definition", s.desired.Unit))
	case unit.Load == "masked" && needed:
		p.blocked = append(p.blocked, fmt.Sprintf("unit %s is masked on the host: unmask it there, or set spec.state to Stopped", s.desired.Unit))
	}
}

// planDefinition delivers the unit file.
func (s systemdDriver) planDefinition(p *planner) (present, differs, ok bool) {
	path := definitionPath(s.desired.Unit)
	file, ok := answerTo[machine.FileState](p, machine.File{Path: path}, "unit file "+path)
	if !ok {
		return false, false, false
	}
	if file.Kind == machine.FileDirectory || file.Kind == machine.FileOther {
		p.blocked = append(p.blocked, fmt.Sprintf("%s on the host is no file: remove it", path))
		return true, true, false
	}
	text := *s.desired.Definition
	sum := digestBytes([]byte(text))
	if file.Kind == machine.FileRegular && file.SHA256 == sum {
		return true, false, true
	}
	observed := short(file.SHA256)
	if file.Kind == machine.FileAbsent {
		observed = "absent"
	} else if file.Kind == machine.FileSymlink {
		observed = "symlink"
	}
	p.change("systemd.definition", short(sum), observed)
	p.define = append(p.define, machine.PutFile{Path: path, Content: machine.Secret(text), SHA256: sum})
	p.reload, p.restart = true, true
	return file.Kind != machine.FileAbsent, true, true
}

// startsAtBoot are the words for which a unit may be disabled.
var startsAtBoot = []string{"enabled", "enabled-runtime"}

// cannotBeEnabled are the words of units without an [Install] section.
var cannotBeEnabled = []string{"static", "generated", "transient"}

func (s systemdDriver) planEnabled(p *planner, unit machine.UnitState) {
	if s.desired.Enabled == nil {
		return
	}
	redefined := len(p.define) > 0
	switch want := *s.desired.Enabled; {
	case want && unit.Enabled != "enabled":
		if slices.Contains(cannotBeEnabled, unit.Enabled) && !redefined {
			p.blocked = append(p.blocked, fmt.Sprintf("unit %s cannot be enabled (%s): its unit file has no [Install] section; remove spec.systemd.enabled", s.desired.Unit, unit.Enabled))
			return
		}
		p.change("systemd.enabled", "true", orNone(unit.Enabled))
		p.enable = append(p.enable, machine.EnableUnit{Unit: s.desired.Unit})
	case !want && slices.Contains(startsAtBoot, unit.Enabled):
		p.change("systemd.enabled", "false", unit.Enabled)
		p.enable = append(p.enable, machine.DisableUnit{Unit: s.desired.Unit})
	}
}
