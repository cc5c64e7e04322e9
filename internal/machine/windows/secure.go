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
//
// Anybody may make a link there as well. icacls would change what it leads to, so
// it is told to work on the link itself (/l); and a link is refused as soon as
// nobody else can put another in its place, since what it leads to may be a
// directory of the one who made it.
func (m *Machine) secure(ctx context.Context) error {
	if m.secured.Load() {
		return nil
	}
	line := fmt.Sprintf("(if exist %[1]s (icacls %[1]s /setowner *S-1-5-32-544 /t /l /q >nul& icacls %[1]s /reset /t /l /q >nul) else (mkdir %[1]s))& "+
		`icacls %[1]s /inheritance:r /grant:r "*S-1-5-32-544:(OI)(CI)F" "*S-1-5-18:(OI)(CI)F" /l /q >nul& if errorlevel 1 (exit 1) else (%[2]s)`,
		quoted(m.state.dir), refuseLinks(m.state.dir, m.state.marks(), m.state.jobs(), m.state.epochs(), m.state.blobs(), m.state.scripts()))
	_, err := m.cmd(ctx, "restrict the state directory to administrators", line)
	var failed *CommandError
	switch {
	case err == nil:
		m.secured.Store(true)
	case errors.As(err, &failed) && failed.Code == exitLink:
		failed.Text = m.state.dir + " or a directory in it is a link or a mount point, and may lead anywhere: remove it"
	}
	return err
}

// exitLink is the exit code of our own lines for a link where a directory must be.
const exitLink = 81

// refuseLinks ends a line with 0, or with exitLink if one of some directories is a link.
func refuseLinks(dirs ...string) string {
	line := "exit 0"
	for _, dir := range dirs {
		line = fmt.Sprintf("fsutil reparsepoint query %s >nul 2>nul& if errorlevel 1 (%s) else (exit %d)", quoted(dir), line, exitLink)
	}
	return line
}

// refusal turns the failure to restrict the state directory into the host's refusal of a job.
func refusal(id string, err error) error {
	var failed *CommandError
	if errors.As(err, &failed) {
		return &machine.RefusedError{JobID: id, Reason: err.Error()}
	}
	return err
}
