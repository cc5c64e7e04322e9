package windows

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// create is the method of Win32_Service that makes a service.
const create = "Create"

// createService creates a service, or brings the one that is there to the same.
func (w *work) createService(ctx context.Context, step machine.CreateWindowsService) error {
	display := step.DisplayName
	if display == "" {
		display = step.Name
	}
	all := machine.ChangeWindowsService{
		Name: step.Name, DisplayName: &display, Description: &step.Description, BinaryPath: &step.BinaryPath, StartMode: &step.StartMode,
	}
	if err := checkStartMode(all.StartMode); err != nil {
		return err
	}
	held := newHold(step.Name, w.held)
	for {
		now, err := w.service(ctx, step.Name)
		if err != nil {
			return err
		}
		if now.Exists {
			return w.changeService(ctx, all)
		}
		err = w.invokeService(ctx, step.Name, create, createParams(step, display))
		switch {
		case err == nil, isReturn(err, returnExists):
			continue
		case !isReturn(err, returnMarkedForDeletion):
			return err
		}
		// A service of this name is being deleted; its end is waited for.
		if err := held.wait(ctx, w.Machine); err != nil {
			return err
		}
	}
}

// createParams are the parameters of Win32_Service.Create in the order of its
// signature. Service type 16 is a process of its own, error control 1 the
// normal one.
func createParams(step machine.CreateWindowsService, display string) []winrm.Param {
	return []winrm.Param{
		param("Name", step.Name),
		param("DisplayName", display),
		param("PathName", step.BinaryPath),
		param("ServiceType", "16"),
		param("ErrorControl", "1"),
		param("StartMode", cimStartMode(step.StartMode)),
		param("DesktopInteract", "false"),
	}
}

func param(name, value string) winrm.Param { return winrm.Param{Name: name, Values: []string{value}} }

// cimStartMode is what Create and Change take; the delay is set otherwise.
func cimStartMode(mode string) string {
	if mode == automaticDelayed {
		return automatic
	}
	return mode
}

func checkStartMode(mode *string) error {
	if mode == nil {
		return nil
	}
	switch *mode {
	case automatic, automaticDelayed, manual, disabled:
		return nil
	default:
		return fmt.Errorf("start mode %q is not supported", *mode)
	}
}

// changeService changes what differs: what the service control manager's class
// can change in one call, then the description, then the delay of the start.
func (w *work) changeService(ctx context.Context, step machine.ChangeWindowsService) error {
	if err := checkStartMode(step.StartMode); err != nil {
		return err
	}
	now, err := w.service(ctx, step.Name)
	if err != nil {
		return err
	}
	if !now.Exists {
		return fmt.Errorf("service %q is not there", step.Name)
	}
	if params := changeParams(step, now); len(params) > 0 {
		if err := w.invokeService(ctx, step.Name, "Change", params); err != nil {
			return err
		}
	}
	if step.Description != nil && *step.Description != now.Description {
		if err := w.describe(ctx, step.Name, *step.Description); err != nil {
			return err
		}
	}
	return w.delay(ctx, step, now)
}

func changeParams(step machine.ChangeWindowsService, now scmService) []winrm.Param {
	var params []winrm.Param
	add := func(name string, want *string, have string) {
		if want != nil && *want != have {
			params = append(params, param(name, *want))
		}
	}
	add("DisplayName", step.DisplayName, now.DisplayName)
	add("PathName", step.BinaryPath, now.BinaryPath)
	if step.StartMode != nil {
		want := cimStartMode(*step.StartMode)
		add("StartMode", &want, cimStartMode(now.StartMode))
	}
	return params
}

// describe sets the description, for which Win32_Service has no method. sc.exe
// has, and asks the service control manager to do it; it is started through WMI
// and not through cmd.exe, because a description is free text: Win32_Process
// takes the command line as it is. The exit code of such a process is not to be
// had, so the outcome is read from the service.
func (w *work) describe(ctx context.Context, name, description string) error {
	doing := fmt.Sprintf("describe service %q", name)
	if strings.ContainsRune(description, 0) {
		return fmt.Errorf("%s: the description holds a null character", doing)
	}
	if err := w.fence(ctx); err != nil {
		return err
	}
	line := "sc.exe description " + argvQuote(name) + " " + argvQuote(description)
	output, err := w.remote.Invoke(ctx, cimv2, "Win32_Process", nil, create, []winrm.Param{param("CommandLine", line)})
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if value := output.String("ReturnValue"); value != "0" {
		return fmt.Errorf("%s: sc.exe could not be started: Win32_Process.Create returned %s", doing, value)
	}
	pid := output.String("ProcessId")
	for {
		created, err := w.processes(ctx, []string{pid})
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if len(created) == 0 {
			break
		}
		if err := w.wait(ctx); err != nil {
			return fmt.Errorf("%s: wait for sc.exe: %w", doing, err)
		}
	}
	now, err := w.service(ctx, name)
	if err == nil && now.Description != description {
		err = fmt.Errorf("sc.exe ran, and the description is %q", now.Description)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// delay sets or clears the delay of an automatic start through sc.exe, which is
// the only tool that does and that takes nothing but the name. Change sets the
// start mode and leaves the delay as it was, so both directions are looked at
// after it.
func (w *work) delay(ctx context.Context, step machine.ChangeWindowsService, now scmService) error {
	if step.StartMode == nil || cimStartMode(*step.StartMode) != automatic {
		return nil
	}
	if now.StartMode != automatic && now.StartMode != automaticDelayed {
		var err error
		if now, err = w.service(ctx, step.Name); err != nil {
			return err
		}
	}
	if now.StartMode == *step.StartMode {
		return nil
	}
	name, err := cmdQuote(step.Name)
	if err != nil {
		return err
	}
	start := "auto"
	if *step.StartMode == automaticDelayed {
		start = "delayed-auto"
	}
	if err := w.fence(ctx); err != nil {
		return err
	}
	_, err = w.cmd(ctx, fmt.Sprintf("set the delay of the start of service %q", step.Name), "sc.exe config "+name+" start= "+start)
	return err
}

// deleteService deletes a stopped service and waits until it is gone: while
// somebody holds it open it is only marked.
func (w *work) deleteService(ctx context.Context, step machine.DeleteWindowsService) error {
	held := newHold(step.Name, w.held)
	for asked := false; ; {
		now, err := w.service(ctx, step.Name)
		if err != nil || !now.Exists {
			return err
		}
		if !asked {
			if now.State != stopped {
				return fmt.Errorf("service %q is %s: it is deleted when it is stopped", step.Name, strings.ToLower(now.State))
			}
			err := w.invokeService(ctx, now.name, "Delete", nil)
			if err != nil && !isReturn(err, returnMarkedForDeletion) {
				return err
			}
			asked = true
			continue
		}
		if err := held.wait(ctx, w.Machine); err != nil {
			return err
		}
	}
}

// hold is the wait for a service that is marked for deletion: the service control
// manager keeps it for as long as any program has it open, which may be days.
type hold struct {
	service string
	limit   time.Duration
	until   time.Time
}

func newHold(service string, limit time.Duration) hold {
	return hold{service: service, limit: limit, until: time.Now().Add(limit)}
}

// wait is one pause, or the end of patience: a person has to find out who holds the service open.
func (h hold) wait(ctx context.Context, m *Machine) error {
	if time.Now().After(h.until) {
		return &HeldOpenError{Service: h.service, For: h.limit}
	}
	if err := m.wait(ctx); err != nil {
		return fmt.Errorf("wait until service %q, which is marked for deletion, is gone: %w", h.service, err)
	}
	return nil
}

// HeldOpenError says that a deleted service does not go away.
type HeldOpenError struct {
	Service string
	For     time.Duration
}

func (e *HeldOpenError) Error() string {
	return fmt.Sprintf("service %q is marked for deletion and has been there for another %v: a program on the host holds it open "+
		"(services.msc, Task Manager, a monitoring agent); it goes when that program lets go of it", e.Service, e.For)
}
