package windows

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// secure makes the state directory, and has nobody but administrators and the
// system read and write there: scripts and their environment pass through it,
// and what lies in it is run. Accounts are named by their SIDs, which are the
// same in every language: S-1-5-32-544 is Administrators, S-1-5-18 SYSTEM.
//
// A directory that is there already may have been made by any user, because
// everybody may make one in C:\ProgramData: it and all in it gets a new owner and
// loses the rights that were given to others. That is done once for each
// connection. For the moment between two calls of icacls the directory has the
// rights that it inherits; what is secret there is short-lived.
func (m *Machine) secure(ctx context.Context) error {
	if m.secured.Load() {
		return nil
	}
	dir := quoted(m.state.dir)
	line := fmt.Sprintf("(if exist %[1]s (icacls %[1]s /setowner *S-1-5-32-544 /t /q >nul& icacls %[1]s /reset /t /q >nul) else (mkdir %[1]s))& "+
		`icacls %[1]s /inheritance:r /grant:r "*S-1-5-32-544:(OI)(CI)F" "*S-1-5-18:(OI)(CI)F" /q >nul& if errorlevel 1 (exit 1) else (exit 0)`, dir)
	_, err := m.cmd(ctx, "restrict the state directory to administrators", line)
	if err == nil {
		m.secured.Store(true)
	}
	return err
}

// refusal turns the failure to restrict the state directory into the host's refusal of a job.
func refusal(id string, err error) error {
	var failed *CommandError
	if errors.As(err, &failed) {
		return &machine.RefusedError{JobID: id, Reason: err.Error()}
	}
	return err
}
