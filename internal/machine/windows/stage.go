package windows

import (
	"context"
	"errors"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Stage implements machine.Machine.
func (m *Machine) Stage(context.Context, machine.Blob) error { return errors.ErrUnsupported }

// Cancel implements machine.Machine.
func (m *Machine) Cancel(context.Context, string, int64) (machine.JobState, error) {
	return machine.JobState{}, errors.ErrUnsupported
}
