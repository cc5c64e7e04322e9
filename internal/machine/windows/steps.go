package windows

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// work is a job while its steps are carried out.
type work struct {
	*Machine
	job machine.Job
	at  int // the step that is carried out
	// printed is the end of what the last script printed.
	printed string
	// aside are files whose old content was in use and has been moved out of the way.
	aside []string
}

// do carries out one step.
func (w *work) do(ctx context.Context, step machine.Step) error {
	switch s := step.(type) {
	case machine.Claim:
		return w.claim(ctx, s)
	case machine.Release:
		return w.release(ctx, s)
	case machine.PutFile:
		return w.putFile(ctx, s)
	case machine.PlaceFile:
		return w.placeFile(ctx, s)
	case machine.FetchFile:
		return w.fetchFile(ctx, s)
	case machine.RunScript:
		return w.runScript(ctx, s)
	case machine.RemoveFile:
		return w.removeFile(ctx, s)
	case machine.CreateWindowsService:
		return w.createService(ctx, s)
	case machine.ChangeWindowsService:
		return w.changeService(ctx, s)
	case machine.DeleteWindowsService:
		return w.deleteService(ctx, s)
	case machine.StartService:
		return w.startService(ctx, s)
	case machine.RestartService:
		return w.restartService(ctx, s)
	case machine.StopService:
		return w.stopService(ctx, s)
	case machine.RecordStart:
		return w.recordStart(ctx, s)
	default:
		return fmt.Errorf("%T is not supported on Windows", step)
	}
}

func checkManager(s machine.Service) error {
	if s.Manager != machine.WindowsSCM {
		return fmt.Errorf("services of %s are not supported on Windows", s.Manager)
	}
	return checkServiceName(s.Name)
}

// invokeService calls a method of a service, if the host has not obeyed a newer
// leader meanwhile.
func (w *work) invokeService(ctx context.Context, name, method string, params []winrm.Param) error {
	keys := map[string]string{"Name": name}
	if method == create {
		// It is a method of the class: there is no instance yet that keys could name.
		keys = nil
	}
	if err := w.fence(ctx); err != nil {
		return err
	}
	output, err := w.remote.Invoke(ctx, cimv2, "Win32_Service", keys, method, params)
	if err != nil {
		return err
	}
	return returned(output, method, name)
}

func isReturn(err error, values ...uint32) bool {
	var value *ReturnValueError
	if !errors.As(err, &value) {
		return false
	}
	for _, v := range values {
		if value.Value == v {
			return true
		}
	}
	return false
}

// broken says that the host could not be asked, rather than that it refused:
// the outcome of the step is unknown, and so is that of the job.
func broken(err error) bool {
	var (
		lost        *transport.LostError
		unreachable *transport.UnreachableError
		credentials *transport.CredentialsError
		trust       *transport.TrustError
	)
	return errors.As(err, &lost) || errors.As(err, &unreachable) || errors.As(err, &credentials) || errors.As(err, &trust) ||
		errors.Is(err, winrm.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// tookLong says that the host gave up waiting for a method, which goes on: a
// service that is slow to start or to stop. What became of it, the next look tells.
func tookLong(err error) bool {
	const codeOperationTimeout = 2150858793
	var fault *winrm.Fault
	return errors.As(err, &fault) && fault.Code == codeOperationTimeout
}
