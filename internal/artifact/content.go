package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"time"
)

// Error says which download failed, and why.
type Error struct {
	URL string
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("download %s: %v", Printable(e.URL), e.Err) }

// Unwrap returns why.
func (e *Error) Unwrap() error { return e.Err }

// SizeError says that content is larger than it may be.
type SizeError struct{ Max int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the content is larger than maxSize, %d bytes", e.Max)
}

// DigestError says that content is not what was declared.
type DigestError struct{ Want, Got string }

func (e *DigestError) Error() string {
	return fmt.Sprintf("the content has the SHA-256 %s, and %s is declared", e.Got, e.Want)
}

// errIdle is why a download is given up.
var errIdle = errors.New("the server has fallen silent")

// Printable is a URL without what may be secret in it.
func Printable(from string) string {
	parsed, err := url.Parse(from)
	if err != nil {
		return "a URL that cannot be read"
	}
	parsed.User, parsed.Fragment = nil, ""
	if parsed.RawQuery != "" {
		parsed.RawQuery = ""
		return parsed.String() + "?…"
	}
	return parsed.String()
}

// content is the rest of a download.
type content struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	wanted Request
	sum    hash.Hash
	passed int64
	idle   time.Duration
	timer  *time.Timer
}

func newContent(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, wanted Request, idle time.Duration) *content {
	c := &content{ctx: ctx, cancel: cancel, body: body, wanted: wanted, sum: sha256.New(), idle: idle}
	c.timer = time.AfterFunc(idle, func() { cancel(errIdle) })
	return c
}

// Read implements io.Reader. Only the server's time counts, not that of the reader.
func (c *content) Read(into []byte) (int, error) {
	c.timer.Reset(c.idle)
	n, err := c.body.Read(into)
	c.timer.Stop()
	c.sum.Write(into[:n])
	c.passed += int64(n)
	switch {
	case c.passed > c.wanted.MaxSize:
		return 0, &Error{URL: c.wanted.URL, Err: &SizeError{Max: c.wanted.MaxSize}}
	case errors.Is(err, io.EOF):
		return c.end(n)
	case err != nil:
		return n, &Error{URL: c.wanted.URL, Err: c.because(err)}
	}
	return n, nil
}

// end compares the digest; the last piece is kept back if it is wrong.
func (c *content) end(n int) (int, error) {
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.wanted.SHA256 {
		return 0, &Error{URL: c.wanted.URL, Err: &DigestError{Want: c.wanted.SHA256, Got: got}}
	}
	return n, io.EOF
}

func (c *content) because(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	return err
}

// Close implements io.Closer.
func (c *content) Close() error {
	c.timer.Stop()
	c.cancel(nil)
	return c.body.Close()
}
