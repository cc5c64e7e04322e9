package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// windowsDriver speaks of a Windows service in the words of Win32_Service.
type windowsDriver struct{ desired *WindowsService }

func (w windowsDriver) service() machine.Service { return windowsServiceOf(w.desired.Name) }

func (w windowsDriver) checks() []machine.Check {
	return []machine.Check{machine.WindowsService{Name: windowsName(w.desired.Name)}}
}

func (w windowsDriver) answer(p *planner) (machine.WindowsServiceState, bool) {
	return answerTo[machine.WindowsServiceState](p, machine.WindowsService{Name: windowsName(w.desired.Name)}, "service "+w.desired.Name)
}

func (w windowsDriver) current(p *planner) (current, bool) {
	state, ok := w.answer(p)
	return currentWindowsService(state), ok
}

// neverStarted is ERROR_SERVICE_NEVER_STARTED, the exit code of a service that has not run since boot.
const neverStarted = 1077

func currentWindowsService(state machine.WindowsServiceState) current {
	c := current{
		state:     state.State,
		instance:  state.Instance,
		pid:       state.ProcessID,
		startMode: state.StartMode,
		since:     state.Since,
	}
	switch {
	case !state.Exists:
		return current{state: Absent}
	case state.State == "Start Pending" || state.State == "Continue Pending":
		c.state = Starting
	case state.State == "Stop Pending" || state.State == "Pause Pending":
		c.state = Stopping
	case state.State == "Stopped" && state.ExitCode != 0 && state.ExitCode != neverStarted:
		c.state, c.failure = Failed, fmt.Sprintf("exit code %d", state.ExitCode)
	}
	return c
}

// canStop: the service control manager refuses a stop while a service starts.
func (w windowsDriver) canStop(state string) bool { return state != Starting }

func (w windowsDriver) plan(p *planner, now current) {
	state, ok := w.answer(p)
	if !ok {
		return
	}
	what := "service " + w.desired.Name
	thing := v1alpha1.ManagedThing{Kind: KindWindowsService, Name: w.desired.Name, State: p.desired.State, Defined: w.desired.BinaryPath != nil}
	if earlier := find(p.seen.Inventory, w.service().Subject()); earlier != nil {
		thing.Defined = thing.Defined || earlier.Defined
	}
	if !state.Exists {
		w.planCreation(p)
		p.own(w.service().Subject(), what, thing, false, false)
		return
	}
	change, differs := w.differences(p, state)
	// Without a binaryPath the spec speaks of a service that is there, so changing it is what was asked for.
	p.own(w.service().Subject(), what, thing, true, differs && w.desired.BinaryPath != nil)
	if change != (machine.ChangeWindowsService{Name: w.desired.Name}) {
		p.define = append(p.define, change)
	}
	w.planOwnProgram(p, state, now)
}

func (w windowsDriver) planCreation(p *planner) {
	if w.desired.BinaryPath == nil {
		p.blocked = append(p.blocked, fmt.Sprintf("service %s is not on the host: install it, or give spec.windowsService.binaryPath to have it created", w.desired.Name))
		return
	}
	create := machine.CreateWindowsService{Name: w.desired.Name, BinaryPath: *w.desired.BinaryPath, StartMode: "Automatic"}
	if w.desired.StartMode != "" {
		create.StartMode = w.desired.StartMode
	}
	if w.desired.DisplayName != nil {
		create.DisplayName = *w.desired.DisplayName
	}
	if w.desired.Description != nil {
		create.Description = *w.desired.Description
	}
	p.change("windowsService", "present", "absent")
	p.define = append(p.define, create)
}

// differences says what to change, and whether that is more than the start at boot.
func (w windowsDriver) differences(p *planner, seen machine.WindowsServiceState) (change machine.ChangeWindowsService, differs bool) {
	change.Name = w.desired.Name
	if want := w.desired.BinaryPath; want != nil && !sameCommandLine(*want, seen.BinaryPath) {
		p.change("windowsService.binaryPath", *want, seen.BinaryPath)
		change.BinaryPath, differs = want, true
		p.restart = true
	}
	if want := w.desired.DisplayName; want != nil && *want != seen.DisplayName && !(*want == "" && seen.DisplayName == seenName(w.desired.Name, seen)) {
		p.change("windowsService.displayName", *want, seen.DisplayName)
		change.DisplayName, differs = want, true
	}
	if want := w.desired.Description; want != nil && *want != seen.Description {
		p.change("windowsService.description", *want, seen.Description)
		change.Description, differs = want, true
	}
	if want := w.desired.StartMode; want != "" && want != seen.StartMode {
		p.change("windowsService.startMode", want, seen.StartMode)
		change.StartMode = &want
	}
	return change, differs
}

// seenName is the display name of a service that has none of its own: its name.
func seenName(name string, seen machine.WindowsServiceState) string {
	if strings.EqualFold(name, seen.DisplayName) {
		return seen.DisplayName
	}
	return name
}

// planOwnProgram stops a service before the program that it runs is replaced:
// Windows does not let go of a program while its process is there.
func (w windowsDriver) planOwnProgram(p *planner, seen machine.WindowsServiceState, now current) {
	if now.state == Stopped || now.state == Failed {
		return
	}
	programs := []string{seen.BinaryPath}
	if w.desired.BinaryPath != nil {
		programs = append(programs, *w.desired.BinaryPath)
	}
	if !slices.ContainsFunc(programs, p.replaces) {
		return
	}
	switch {
	case p.desired.State == v1alpha1.StateUnmanaged:
		p.blocked = append(p.blocked, fmt.Sprintf("service %s runs the program that is to be replaced, and spec.state is Unmanaged: stop it on the host, or set spec.state", w.desired.Name))
	case now.pending():
		p.holdBack(fmt.Sprintf("%s is %s; its program is replaced after that", w.desired.Name, now.state))
	default:
		p.stopFirst = append(p.stopFirst, machine.StopService{Service: w.service()})
	}
}

// replaces tells whether a file step replaces the program of a command line.
func (p *planner) replaces(commandLine string) bool {
	executable, _ := program(commandLine)
	return slices.ContainsFunc(p.files, func(step machine.Step) bool {
		return strings.EqualFold(target(step), executable)
	})
}
