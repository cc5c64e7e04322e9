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
	content, err := io.ReadAll(io.LimitReader(reader, blob.Size+1))
	if err != nil {
		return err
	}
	if int64(len(content)) > blob.Size {
		return &machine.RefusedError{Reason: fmt.Sprintf("the content is larger than %d bytes", blob.Size)}
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
		return &machine.RefusedError{Reason: "the digest of the content is not the declared one"}
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
		j.state.Phase, j.state.Step, j.state.Finished = machine.JobCancelled, j.next, h.stamp()
		h.note("cancel %s", id)
	}
	return j.state, nil
}

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

// Serve has a URL answer with content when this host downloads it.
func (h *Host) Serve(url, content string) { h.locked(func() { h.web[url] = content }) }

// placeFile puts what was staged in place; a file that has the digest is there already.
func (h *Host) placeFile(s machine.PlaceFile) error {
	content, staged := h.staged[s.SHA256]
	if before := h.fileState(s.Path); !staged && before.SHA256 == s.SHA256 {
		content, staged = h.files[s.Path].Content, true
	}
	if !staged {
		return fmt.Errorf("put %s: the content was not staged", s.Path)
	}
	if err := h.putFile(machine.PutFile{Path: s.Path, Content: content, SHA256: s.SHA256, Mode: s.Mode, Owner: s.Owner, Group: s.Group}); err != nil {
		return err
	}
	h.taken = append(h.taken, s.SHA256)
	return nil
}

// fetchFile downloads from what Serve set, unless the file has the digest.
func (h *Host) fetchFile(s machine.FetchFile) error {
	content, found := h.web[s.URL]
	if before := h.fileState(s.Path); before.SHA256 == s.SHA256 {
		content, found = string(h.files[s.Path].Content), true
	}
	switch {
	case !found:
		return fmt.Errorf("download %s: 404 Not Found", s.URL)
	case int64(len(content)) > s.MaxSize:
		return fmt.Errorf("download %s: it is larger than %d bytes", s.URL, s.MaxSize)
	}
	return h.putFile(machine.PutFile{
		Path: s.Path, Content: machine.Secret(content), SHA256: s.SHA256, Mode: s.Mode, Owner: s.Owner, Group: s.Group,
	})
}

// dropTaken removes staged content once the job that took it has ended.
func (h *Host) dropTaken() {
	for _, sum := range h.taken {
		delete(h.staged, sum)
	}
	h.taken = nil
}
