package windows

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// startService starts a service that does not run. One that runs is left alone:
// only if this very start was begun before (the mark says so, and the instance
// is another than then) it is recorded as done. Whether somebody else's start
// had the present files before it cannot be known, so it is not claimed.
func (w *work) startService(ctx context.Context, step machine.StartService) error {
	if err := checkManager(step.Service); err != nil {
		return err
	}
	mark, err := w.startMark(ctx, step.Service.Subject())
	if err != nil {
		return err
	}
	now, err := w.settled(ctx, step.Service.Name)
	if err != nil {
		return err
	}
	switch now.State {
	case running:
		if mark.begun(step.Hash, now) {
			return w.recordInstance(ctx, mark, step.Hash, now)
		}
		return nil
	case paused:
		return w.resume(ctx, step.Service.Name)
	default:
		return w.startStopped(ctx, mark, step.Hash, now)
	}
}

// begun says that the start with a hash, which the mark announces, has happened.
func (f markFile) begun(hash string, now scmService) bool {
	return f.Pending != "" && f.Pending == hash && now.State == running && now.Instance != "" && now.Instance != f.Before
}

// restartService restarts a service once. A restart that an operator began and
// did not see the end of is only recorded, or only its second half is done.
func (w *work) restartService(ctx context.Context, step machine.RestartService) error {
	if err := checkManager(step.Service); err != nil {
		return err
	}
	mark, err := w.startMark(ctx, step.Service.Subject())
	if err != nil {
		return err
	}
	now, err := w.settled(ctx, step.Service.Name)
	if err != nil {
		return err
	}
	if mark.begun(step.Hash, now) {
		return w.recordInstance(ctx, mark, step.Hash, now)
	}
	if now.State != stopped {
		if mark, err = w.announce(ctx, mark, step.Hash, now); err != nil {
			return err
		}
		if err := w.stopRunning(ctx, now); err != nil {
			return err
		}
		if now, err = w.settled(ctx, step.Service.Name); err != nil {
			return err
		}
		if now.State != stopped {
			return fmt.Errorf("service %q is %s after it was stopped: somebody else controls it", step.Service.Name, now.State)
		}
	}
	return w.startStopped(ctx, mark, step.Hash, now)
}

// announce writes down that a start is about to happen, and which instance runs before it.
func (w *work) announce(ctx context.Context, mark markFile, hash string, now scmService) (markFile, error) {
	mark.Pending, mark.Before = hash, now.Instance
	return mark, w.writeMark(ctx, mark)
}

func (w *work) recordInstance(ctx context.Context, mark markFile, hash string, now scmService) error {
	mark.Started, mark.Instance = hash, now.Instance
	mark.Pending, mark.Before = "", ""
	return w.writeMark(ctx, mark)
}

// startStopped announces, starts, waits and records.
func (w *work) startStopped(ctx context.Context, mark markFile, hash string, now scmService) error {
	if mark.Pending != hash {
		var err error
		if mark, err = w.announce(ctx, mark, hash, now); err != nil {
			return err
		}
	}
	name := now.name
	if err := w.invokeService(ctx, name, "StartService", nil); err != nil && !isReturn(err, returnAlreadyRunning) && !tookLong(err) {
		return err
	}
	now, err := w.settled(ctx, name)
	if err != nil {
		return err
	}
	if now.State != running {
		return fmt.Errorf("service %q did not stay up: it is %s with exit code %d (%d)", name, now.State, now.ExitCode, now.specific)
	}
	return w.recordInstance(ctx, mark, hash, now)
}

func (w *work) recordStart(ctx context.Context, step machine.RecordStart) error {
	if err := checkManager(step.Service); err != nil {
		return err
	}
	mark, err := w.startMark(ctx, step.Service.Subject())
	if err != nil {
		return err
	}
	now, err := w.settled(ctx, step.Service.Name)
	if err != nil {
		return err
	}
	if now.State != running || now.Instance == "" {
		return fmt.Errorf("service %q is %s: there is no start to record", step.Service.Name, now.State)
	}
	return w.recordInstance(ctx, mark, step.Hash, now)
}

func (w *work) stopService(ctx context.Context, step machine.StopService) error {
	if err := checkManager(step.Service); err != nil {
		return err
	}
	now, err := w.service(ctx, step.Service.Name)
	if err != nil || !now.Exists {
		return err
	}
	return w.stopRunning(ctx, now)
}

// stopRunning stops a service and waits until its process is gone: a service
// reports that it has stopped while its process still holds files and ports.
func (w *work) stopRunning(ctx context.Context, before scmService) error {
	now, err := w.settled(ctx, before.name)
	if err != nil {
		return err
	}
	if now.Instance != "" {
		before = now
	}
	for now.State != stopped {
		// 5 and 6 say that it is stopped or about to be, which waiting shows.
		err := w.invokeService(ctx, now.name, "StopService", nil)
		if err != nil && !isReturn(err, returnCannotAcceptControl, returnNotActive) && !tookLong(err) {
			return err
		}
		if now, err = w.settled(ctx, before.name); err != nil {
			return err
		}
		if now.State == stopped {
			break
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
	return w.gone(ctx, before)
}

// gone waits until the process of a service has ended. One that it shares with
// other services stays.
func (w *work) gone(ctx context.Context, before scmService) error {
	for before.ProcessID != 0 && !before.shared {
		created, err := w.processes(ctx, []string{fmt.Sprint(before.ProcessID)})
		if err != nil {
			return err
		}
		if since, exists := created[before.ProcessID]; !exists || since != before.Since {
			return nil
		}
		if err := w.wait(ctx); err != nil {
			return fmt.Errorf("wait for process %d of service %q to end: %w", before.ProcessID, before.name, err)
		}
	}
	return nil
}

func (w *work) resume(ctx context.Context, name string) error {
	if err := w.invokeService(ctx, name, "ResumeService", nil); err != nil {
		return err
	}
	_, err := w.settled(ctx, name)
	return err
}

// settled waits until a service is in no pending state. A pending service is
// never told anything: it would refuse, or do it twice.
func (w *work) settled(ctx context.Context, name string) (scmService, error) {
	for {
		now, err := w.service(ctx, name)
		if err != nil {
			return now, err
		}
		if !now.Exists {
			return now, fmt.Errorf("service %q is not there", name)
		}
		if now.settled() {
			return now, nil
		}
		if err := w.wait(ctx); err != nil {
			return now, fmt.Errorf("wait for service %q, which is %s: %w", name, now.State, err)
		}
	}
}

// settled says that a service is in a state of rest, and that its process is
// known if it runs.
func (s scmService) settled() bool {
	switch s.State {
	case stopped, paused:
		return true
	case running:
		return s.ProcessID == 0 || s.Instance != ""
	default:
		return false
	}
}

// wait is one pause between two looks at the host.
func (m *Machine) wait(ctx context.Context) error { return waitFor(ctx, m.poll) }

func waitFor(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
