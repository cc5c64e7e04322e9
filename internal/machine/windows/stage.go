package windows

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// stagedFor is how long content waits for a job.
const stagedFor = 24 * time.Hour

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Stage implements machine.Machine. Of the content, no more is held here than what goes into a few
// lines; the host moves it to its name when it is whole and has its digest.
func (m *Machine) Stage(ctx context.Context, blob machine.Blob) error {
	if !hexDigest.MatchString(blob.SHA256) || blob.Size < 0 {
		return fmt.Errorf("stage content: digest %q, size %d", blob.SHA256, blob.Size)
	}
	return stageRefusal(m.stage(ctx, blob))
}

func (m *Machine) stage(ctx context.Context, blob machine.Blob) error {
	if err := m.secure(ctx); err != nil {
		return fmt.Errorf("stage content: %w", err)
	}
	path := m.state.blob(blob.SHA256)
	staged, err := m.holds(ctx, path, blob.SHA256)
	if err != nil || staged {
		return err
	}
	content, err := blob.Open(ctx)
	if err != nil {
		return fmt.Errorf("stage content: %w", err)
	}
	err = m.deliver(ctx, delivery{Path: path, Size: -1, SHA256: blob.SHA256}, &base64Reader{content: io.LimitReader(content, blob.Size)})
	if err := errors.Join(err, content.Close()); err != nil {
		return fmt.Errorf("stage content: %w", err)
	}
	return nil
}

// stageRefusal turns what the host itself says about content into its refusal.
func stageRefusal(err error) error {
	var command *CommandError
	var delivery *DeliveryError
	switch {
	case errors.As(err, &command):
		return &machine.RefusedError{Reason: command.Error()}
	case errors.As(err, &delivery):
		return &machine.RefusedError{Reason: delivery.Error()}
	}
	return err
}

// holds says that a file has a digest. It is hashed only if it is not known already.
func (m *Machine) holds(ctx context.Context, path, sha256 string) (bool, error) {
	answers, err := m.digests(ctx, []string{path})
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", path, err)
	}
	file, isFile := answers[key(path)].(machine.FileState)
	return isFile && file.Kind == machine.FileRegular && file.SHA256 == sha256, nil
}

// placeFile copies staged content to where it belongs: a copy has the rights of
// the directory that it is made in, which a file that is moved there would not have.
func (w *work) placeFile(ctx context.Context, f machine.PlaceFile) error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	if !hexDigest.MatchString(f.SHA256) {
		return fmt.Errorf("place %s: digest %q", f.Path, f.SHA256)
	}
	staged := w.state.blob(f.SHA256)
	err := w.place(ctx, delivery{Path: f.Path, Size: -1, SHA256: f.SHA256, From: staged})
	var failed *DeliveryError
	if !errors.As(err, &failed) || failed.Code != codeNotFound {
		return err
	}
	// The copy is gone when the file was placed by a job that was broken off.
	if done, lookErr := w.holds(ctx, f.Path, f.SHA256); lookErr != nil || done {
		return lookErr
	}
	return fmt.Errorf("the content is no longer staged: %w", err)
}

// place puts a file of the host into its place.
func (w *work) place(ctx context.Context, d delivery) error {
	defer w.cache.forget(d.From)
	aside, err := w.delivered(ctx, d, nil)
	if aside {
		w.aside = append(w.aside, d.Path)
	}
	return err
}

// removeStale removes content that nobody has taken for a day.
func (w *work) removeStale(ctx context.Context, host clock) error {
	folder, err := wqlString(w.state.blobs()[2:] + `\`)
	if err != nil {
		return err
	}
	drive, err := wqlString(w.state.dir[:2])
	if err != nil {
		return err
	}
	files, err := w.remote.Query(ctx, cimv2, "SELECT Name,LastModified FROM CIM_DataFile WHERE Drive="+drive+" AND Path="+folder)
	if err != nil {
		return fmt.Errorf("look for content that nobody took: %w", err)
	}
	now, err := time.Parse(time.RFC3339Nano, host.now)
	if err != nil {
		return fmt.Errorf("the host's clock: %w", err)
	}
	var stale []string
	for _, file := range files {
		path := file.String("Name")
		modified, err := time.Parse(time.RFC3339Nano, instant(file.String("LastModified")))
		if err == nil && now.Sub(modified) > stagedFor && checkPath(path) == nil {
			w.cache.forget(path)
			stale = append(stale, "del /f /q "+quoted(path)+" 2>nul")
		}
	}
	for _, line := range joinLines(stale) {
		if _, err := w.cmd(ctx, "remove content that nobody took", line+"& exit 0"); err != nil {
			return err
		}
	}
	return nil
}

// removeAside removes the old content of programs that ran while they were
// replaced, as far as nobody runs it any more. What is left goes with the next
// delivery to the same path.
func (w *work) removeAside(ctx context.Context) error {
	var old []string
	for _, path := range w.aside {
		old = append(old, "del /f /q "+quoted(path+".old-????????")+" 2>nul")
	}
	for _, line := range joinLines(old) {
		if _, err := w.cmd(ctx, "remove replaced programs", line+"& exit 0"); err != nil {
			return err
		}
	}
	return nil
}

// base64Reader reads content as lines that are valid base64 each by itself.
type base64Reader struct {
	content io.Reader
	raw     []byte
	line    []byte
	pending []byte
}

func (b *base64Reader) Read(p []byte) (int, error) {
	if len(b.pending) == 0 {
		if b.raw == nil {
			b.raw = make([]byte, lineBytes)
		}
		n, err := io.ReadFull(b.content, b.raw)
		if n == 0 {
			return 0, err
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		b.line = append(base64.StdEncoding.AppendEncode(b.line[:0], b.raw[:n]), '\n')
		b.pending = b.line
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}
