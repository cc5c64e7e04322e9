package windows

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// markFile is a mark as it stands on the host. The subject is for people.
type markFile struct {
	Subject  machine.Subject `json:"subject"`
	Owner    ownerFile       `json:"owner"`
	Adopted  bool            `json:"adopted,omitempty"`
	Started  string          `json:"started,omitempty"`
	Instance string          `json:"instance,omitempty"`
	Pending  string          `json:"pending,omitempty"`
	Before   string          `json:"before,omitempty"`
}

type ownerFile struct {
	Cluster string `json:"cluster"`
	UID     string `json:"uid"`
	Object  string `json:"object"`
}

func (o ownerFile) is(owner machine.Owner) bool {
	return o.Cluster == owner.Cluster && o.UID == owner.UID
}

func parseMark(content string) (machine.MarkState, error) {
	var file markFile
	if err := json.Unmarshal([]byte(content), &file); err != nil {
		return machine.MarkState{}, fmt.Errorf("read a mark: %w", err)
	}
	return machine.MarkState{
		Exists: true, Owner: machine.Owner(file.Owner), Adopted: file.Adopted,
		Started: file.Started, Instance: file.Instance, Pending: file.Pending, Before: file.Before,
	}, nil
}

// readMark reads a mark as it is now; nil when there is none.
func (m *Machine) readMark(ctx context.Context, subject machine.Subject) (*markFile, error) {
	path := m.state.mark(subject)
	contents, err := m.typeFiles(ctx, []string{path})
	if err != nil {
		return nil, fmt.Errorf("read the mark of %s: %w", subject, err)
	}
	if contents[path] == "" {
		return nil, nil
	}
	var file markFile
	if err := json.Unmarshal([]byte(contents[path]), &file); err != nil {
		return nil, fmt.Errorf("read the mark of %s: %w", subject, err)
	}
	return &file, nil
}

// ClaimedError says that somebody else manages a subject.
type ClaimedError struct {
	Subject machine.Subject
	Owner   machine.Owner
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("%s is managed by %s (%s) of cluster %s", e.Subject, e.Owner.Object, e.Owner.UID, e.Owner.Cluster)
}

// claim writes a mark where there is none. The host lets one of two claims that
// meet win. A claim that is there already stays as it is: what a repeated claim
// says about adoption may be the trace of the first.
func (m *Machine) claim(ctx context.Context, c machine.Claim) error {
	for attempt := 0; ; attempt++ {
		mark, err := m.readMark(ctx, c.Subject)
		if err != nil {
			return err
		}
		switch {
		case mark == nil:
		case mark.Owner == ownerFile{}:
			// A start was recorded before anybody claimed the service.
			mark.Owner, mark.Adopted = ownerFile(c.Owner), c.Adopted
			return m.writeMark(ctx, *mark)
		case !mark.Owner.is(c.Owner):
			return &ClaimedError{Subject: c.Subject, Owner: machine.Owner(mark.Owner)}
		default:
			return nil
		}
		created, err := m.create(ctx, m.state.mark(c.Subject), markFile{Subject: c.Subject, Owner: ownerFile(c.Owner), Adopted: c.Adopted})
		if err != nil {
			return fmt.Errorf("claim %s: %w", c.Subject, err)
		}
		if created {
			return nil
		}
		if attempt == 3 {
			return fmt.Errorf("claim %s: the mark can neither be read nor written", c.Subject)
		}
	}
}

// release removes a mark of an owner. Where there is none, or somebody else's,
// there is nothing to release.
func (m *Machine) release(ctx context.Context, r machine.Release) error {
	mark, err := m.readMark(ctx, r.Subject)
	if err != nil || mark == nil || !mark.Owner.is(r.Owner) {
		return err
	}
	path := m.state.mark(r.Subject)
	defer m.cache.forget(path)
	if err := m.remove(ctx, quoted(path)); err != nil {
		return fmt.Errorf("release %s: %w", r.Subject, err)
	}
	return nil
}

// startMark reads the mark of a service that is about to be started, or begins
// one: an Operation may start what nobody has claimed.
func (m *Machine) startMark(ctx context.Context, subject machine.Subject) (markFile, error) {
	mark, err := m.readMark(ctx, subject)
	if err != nil || mark == nil {
		return markFile{Subject: subject}, err
	}
	return *mark, nil
}

func (m *Machine) writeMark(ctx context.Context, mark markFile) error {
	path := m.state.mark(mark.Subject)
	defer m.cache.forget(path)
	if err := m.replace(ctx, path, mark); err != nil {
		return fmt.Errorf("write the mark of %s: %w", mark.Subject, err)
	}
	return nil
}
