package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	// slowestStage is how many bytes a second content has to come through at least.
	slowestStage = 256 << 10
	// longestStage bounds the time for content whose size is not known to be sensible.
	longestStage = 24 * time.Hour
)

// SourceError says that content could not be read where it comes from. That is
// not the host's fault, and says nothing about the connection to it.
type SourceError struct {
	SHA256 string
	Err    error
}

func (e *SourceError) Error() string {
	return fmt.Sprintf("read the content %s: %v", bound(e.SHA256, 12), e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// SlowStageError says that content did not get through in the time that it has.
type SlowStageError struct {
	SHA256 string
	Limit  time.Duration
}

func (e *SlowStageError) Error() string {
	return fmt.Sprintf("the content %s was not on the host after %s (at least %d KiB a second are expected)",
		bound(e.SHA256, 12), e.Limit, slowestStage>>10)
}

// stageLimit is how long content of a size may take.
func stageLimit(size int64, least time.Duration) time.Duration {
	seconds := min(max(size, 0)/slowestStage, int64(longestStage/time.Second))
	return max(time.Duration(seconds)*time.Second, least)
}

// stage puts a job's content on the host, one piece after the other. What is
// there whole stays there, so a job that is submitted again begins where this one ended.
func (l *link) stage(ctx context.Context, conn *connection, blobs []machine.Blob) error {
	for _, blob := range blobs {
		err := l.stageOne(ctx, conn, blob)
		countStage(err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link) stageOne(ctx context.Context, conn *connection, blob machine.Blob) error {
	origin := &source{open: blob.Open, size: blob.Size}
	blob.Open = origin.Open
	limit := stageLimit(blob.Size, l.fleet.options.HandOver)
	var returned atomic.Bool
	_, err := bounded(ctx, limit, func(ctx context.Context) (struct{}, error) {
		defer returned.Store(true)
		return struct{}{}, conn.machine.Stage(ctx, blob)
	}, nil)
	if !returned.Load() {
		conn.sever() // It would go on by itself otherwise, whatever the machine makes of its context.
	}
	switch failed := origin.failure(); {
	case err == nil || ctx.Err() != nil:
		return err
	case failed != nil:
		return &SourceError{SHA256: blob.SHA256, Err: failed}
	case errors.Is(err, context.DeadlineExceeded):
		return &SlowStageError{SHA256: blob.SHA256, Limit: limit}
	}
	return err
}

// notStaged hands a job back whose content is not on the host. The caller does not hold mu.
func (l *link) notStaged(conn *connection, next *queued, err error) {
	l.logDefect(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.settle()
	l.handing = nil
	at := slices.Index(l.queue, next)
	if at < 0 {
		return // It was handed back already, which ended the staging.
	}
	l.queue = slices.Delete(l.queue, at, at+1)
	if u := l.users[next.object]; u != nil {
		l.refuseJob(u, next.job.ID, l.describe(err)+"; the job was not begun")
	}
	if l.conn == conn && !harmless(err) {
		l.fail(err, conn)
	}
}

// harmless tells an error that says nothing about the connection from one that does.
func harmless(err error) bool {
	var origin *SourceError
	var slow *SlowStageError
	return refusedByHost(err) || errors.As(err, &origin) || errors.As(err, &slow) || errors.Is(err, errors.ErrUnsupported)
}

// source is where content comes from. It remembers its own failures, so that
// they are told from those of the way to the host.
type source struct {
	open func(ctx context.Context) (io.ReadCloser, error)
	size int64 // at most

	mu  sync.Mutex
	err error
}

// Open begins to read.
func (s *source) Open(ctx context.Context) (io.ReadCloser, error) {
	if s.open == nil {
		return nil, s.fail(ctx, errors.New("it has no source"))
	}
	content, err := s.open(ctx)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &reading{ReadCloser: content, source: s, ctx: ctx}, nil
}

// fail remembers an error, unless it only says that nobody waits any longer.
func (s *source) fail(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = err
	}
	return err
}

func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// reading counts what is read, and ends it where there is more than was announced.
type reading struct {
	io.ReadCloser
	source *source
	ctx    context.Context
	read   int64
}

func (r *reading) Read(into []byte) (int, error) {
	n, err := r.ReadCloser.Read(into)
	r.read += int64(n)
	countStaged(n)
	if size := r.source.size; size > 0 && r.read > size {
		return 0, r.source.fail(r.ctx, fmt.Errorf("it is longer than %d bytes", size))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, r.source.fail(r.ctx, err)
	}
	return n, err
}
