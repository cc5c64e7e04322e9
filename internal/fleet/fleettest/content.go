package fleettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// Stage implements machine.Machine.
func (s *session) Stage(ctx context.Context, blob machine.Blob) error {
	if err := s.enter(ctx, "stage content"); err != nil {
		return err
	}
	h := s.host
	h.mu.Lock()
	gate, err := h.stageGate, pop(&h.stageErrs)
	_, there := h.staged[blob.SHA256]
	h.mu.Unlock()
	if err != nil || there {
		return err
	}
	reader, err := blob.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	content, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return &transport.LostError{Doing: "stage content", Err: ctx.Err()}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, open := h.sessions[s]; !open {
		return &transport.LostError{Doing: "stage content", Err: errors.New("connection reset by peer")}
	}
	if digest(content) != blob.SHA256 {
		return &machine.RefusedError{JobID: "staging", Reason: "the digest of the content is not the declared one"}
	}
	h.staged[blob.SHA256] = content
	h.note("stage %s", blob.SHA256[:12])
	return nil
}

// Cancel implements machine.Machine.
func (s *session) Cancel(ctx context.Context, id string, epoch int64) (machine.JobState, error) {
	if err := s.enter(ctx, "cancel job "+id); err != nil {
		return machine.JobState{}, err
	}
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch < h.epoch {
		return machine.JobState{}, &machine.StaleLeaderError{Epoch: epoch, Seen: h.epoch}
	}
	h.epoch = epoch
	j := h.jobs[id]
	if j == nil {
		return machine.JobState{Phase: machine.JobAbsent}, nil
	}
	if j.state.Phase == machine.JobRunning {
		j.state.Phase, j.state.Finished = machine.JobCancelled, h.stamp()
		h.note("cancel %s", id)
	}
	return j.state, nil
}

// placeFile takes content that was staged.
func (h *Host) placeFile(s machine.PlaceFile) error {
	content, there := h.staged[s.SHA256]
	if !there {
		if file := h.files[s.Path]; file == nil || digest(file.Content) != s.SHA256 {
			return fmt.Errorf("place %s: the content is not staged", s.Path)
		}
		return nil // It was placed by an attempt before.
	}
	err := h.putFile(machine.PutFile{
		Path: s.Path, Content: content, SHA256: s.SHA256, Mode: s.Mode, Owner: s.Owner, Group: s.Group,
	})
	if err == nil {
		delete(h.staged, s.SHA256)
	}
	return err
}

// fetchFile downloads what Serve serves.
func (h *Host) fetchFile(s machine.FetchFile) error {
	content, there := h.served[s.URL]
	switch {
	case !there:
		return fmt.Errorf("fetch %s: 404 Not Found", s.Path)
	case s.MaxSize > 0 && int64(len(content)) > s.MaxSize:
		return fmt.Errorf("fetch %s: it is larger than %d bytes", s.Path, s.MaxSize)
	}
	return h.putFile(machine.PutFile{
		Path: s.Path, Content: slices.Clone(content), SHA256: s.SHA256, Mode: s.Mode, Owner: s.Owner, Group: s.Group,
	})
}

func (h *Host) runScript(s machine.RunScript) error {
	if h.scripts == nil {
		return errors.New("run script: the model has no OnScript")
	}
	h.note("run %s", s.Digest)
	if exitCode, output := h.scripts(string(s.Text), s.Environment); exitCode != 0 {
		return fmt.Errorf("exit code %d: %s", exitCode, output)
	}
	return nil
}

func (h *Host) scriptState(c machine.Script) machine.Answer {
	if h.scripts == nil {
		return machine.Problem{Reason: "NotSupported", Message: "the model has no OnScript"}
	}
	exitCode, output := h.scripts(string(c.Text), machine.DecodeEnvironment(c.Environment))
	return machine.ScriptState{ExitCode: exitCode, Output: output}
}

// OnScript has users' scripts answered by a function, those that look and those
// that change. It is called with the host locked, and must not use it.
func (h *Host) OnScript(run func(text string, environment []machine.Variable) (exitCode int, output string)) {
	h.locked(func() { h.scripts = run })
}

// Serve has the host find content at a URL.
func (h *Host) Serve(url string, content []byte) { h.locked(func() { h.served[url] = content }) }

// FailStage has the next Stages return errors.
func (h *Host) FailStage(errs ...error) {
	h.locked(func() { h.stageErrs = append(h.stageErrs, errs...) })
}

// BlockStage makes Stage wait, when it has read the content, until the returned function is called.
func (h *Host) BlockStage() (release func()) {
	gate := make(chan struct{})
	h.locked(func() { h.stageGate = gate })
	return func() {
		h.locked(func() { h.stageGate = nil })
		close(gate)
	}
}

// Staged lists the digests of the content that waits for a job, sorted.
func (h *Host) Staged() (digests []string) {
	h.locked(func() {
		for digest := range h.staged {
			digests = append(digests, digest)
		}
	})
	slices.Sort(digests)
	return digests
}
