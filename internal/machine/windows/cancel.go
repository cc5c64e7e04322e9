package windows

import (
	"context"
	"fmt"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Cancel implements machine.Machine. A job that this process carries out ends
// after the request that is under way; a script is ended with all that it started.
func (m *Machine) Cancel(ctx context.Context, id string, epoch int64) (machine.JobState, error) {
	if err := checkJobID(id); err != nil {
		return machine.JobState{}, err
	}
	w := &work{Machine: m, job: machine.Job{ID: id, Epoch: epoch}}
	absent, err := w.unknown(ctx)
	if err != nil || absent {
		return machine.JobState{Phase: machine.JobAbsent}, err
	}
	if err := w.raise(ctx); err != nil {
		return machine.JobState{}, fmt.Errorf("cancel job %s: %w", id, err)
	}
	if ended := jobsInFlight.cancel(m.flight(id)); ended != nil {
		select {
		case <-ended:
		case <-ctx.Done():
			return machine.JobState{}, fmt.Errorf("cancel job %s: %w", id, context.Cause(ctx))
		}
	}
	host, err := w.clock(ctx)
	if err != nil {
		return machine.JobState{}, fmt.Errorf("cancel job %s: %w", id, err)
	}
	r, err := w.receipts(ctx, id)
	if err != nil || r.Phase != machine.JobLost {
		return r.JobState, err
	}
	state, err := w.orphan(ctx, r, host)
	if err != nil || state.Phase != machine.JobRunning {
		return state, err
	}
	return w.endOrphan(ctx, r, host, exitFile{Code: exitCancelled, Message: errCancelled.Error(), Cancelled: true})
}

// unknown says that the host does not know the job. It is asked first, so that
// no epoch is left on a host on which nothing is managed.
func (w *work) unknown(ctx context.Context) (bool, error) {
	if _, running := jobsInFlight.look(w.flight(w.job.ID)); running {
		return false, nil
	}
	r, err := w.receipts(ctx, w.job.ID)
	if err != nil || r.Phase != machine.JobAbsent {
		return false, err
	}
	return true, w.fence(ctx)
}

// endOrphan ends the script of a job whose operator is gone, and writes the
// receipt of the job, unless the script has come to its end before.
func (w *work) endOrphan(ctx context.Context, r receipts, host clock, exit exitFile) (machine.JobState, error) {
	if err := w.intend(ctx, exit); err != nil {
		return r.JobState, err
	}
	for _, step := range r.begun.Scripts {
		p, err := w.recorded(ctx, w.job.ID, step)
		if err != nil {
			return r.JobState, err
		}
		if err := w.endTree(ctx, w.scriptLine(w.job.ID, step), p); err != nil {
			return r.JobState, fmt.Errorf("end job %s: %w", w.job.ID, err)
		}
		view, err := w.look(ctx, w.job.ID, step)
		if err != nil {
			return r.JobState, err
		}
		if view.began || view.ended {
			exit.Step = step
		}
	}
	state, err := w.judge(ctx, r, host)
	if err != nil || state.Phase != machine.JobLost {
		return state, err
	}
	now, err := w.clock(ctx)
	if err != nil {
		return state, err
	}
	exit.Finished = now.now
	return w.end(ctx, r.JobState, exit)
}

// intend writes down that a job is being ended, before any process of it is: who
// dies between two of them leaves a job that the next one ends.
func (w *work) intend(ctx context.Context, exit exitFile) error {
	if _, err := w.create(ctx, w.state.ending(w.job.ID), exit); err != nil {
		return fmt.Errorf("end job %s: %w", w.job.ID, err)
	}
	return nil
}
