package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	maxStageAnswer = 8 << 10
	// slowLink is how many bytes a second are expected of the slowest way to a host.
	slowLink = 256 << 10
)

// Stage implements machine.Machine.
func (m *Machine) Stage(ctx context.Context, blob machine.Blob) error {
	if !sha256Hex.MatchString(blob.SHA256) || blob.Size < 0 {
		return errors.New("stage: content has a SHA-256 in lower-case hex, and a largest size")
	}
	doing := "stage " + blob.SHA256[:12]
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.options.RequestTimeout+time.Duration(blob.Size/slowLink)*time.Second)
		defer cancel()
	}
	r := m.newRequest()
	r.lasting = true
	r.use("prepare", "stage")
	r.line("stage %s %d", blob.SHA256, blob.Size)
	c := &content{ctx: ctx, blob: blob, ready: "\n" + r.nonce + " ready\n"}
	defer c.close()
	r.attach = c.attach
	answer, _, err := m.send(ctx, doing, r, maxStageAnswer)
	if failure := c.failure(); failure != nil {
		return fmt.Errorf("%s: read the content: %w", doing, failure)
	}
	if err != nil {
		return err
	}
	return readStage(answer, doing, r.nonce, blob)
}

func readStage(answer, doing, nonce string, blob machine.Blob) error {
	answer = strings.TrimPrefix(answer, nonce+" ready\n")
	tag, rest, _ := strings.Cut(strings.TrimSpace(answer), " ")
	switch tag {
	case "h":
		return nil
	case "x":
		return &machine.RefusedError{Reason: excerpt(rest)}
	case "i":
		return &machine.RefusedError{Reason: fmt.Sprintf("it does not have the digest %s that it should have (%s bytes came, of at most %d)", blob.SHA256[:12], excerpt(rest), blob.Size)}
	default:
		return fmt.Errorf("%s: the host gave no answer that can be read", doing)
	}
}

// content is sent when the host asks for it, and from nowhere kept in memory.
type content struct {
	ctx   context.Context
	blob  machine.Blob
	ready string
	heard string

	mu     sync.Mutex
	from   io.ReadCloser
	closed bool
	err    error
}

func (c *content) attach(t *talk) func([]byte) {
	asked := false
	return func(chunk []byte) {
		if asked {
			return
		}
		c.heard += string(chunk)
		if asked = strings.Contains(c.heard, c.ready); asked {
			c.heard = ""
			// To open may take its time, and hearing must not.
			go c.begin(t)
		} else if tail := len(c.heard) - len(c.ready); tail > 0 {
			c.heard = c.heard[tail:]
		}
	}
}

func (c *content) begin(t *talk) {
	from, err := defect.Guard(func() (io.ReadCloser, error) { return c.blob.Open(c.ctx) })
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.err = err
		t.hangUp()
	case c.closed:
		_ = from.Close()
	default:
		c.from = from
		t.say(&limited{from: from, left: c.blob.Size, fail: c.fail})
		t.end()
	}
}

func (c *content) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *content) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *content) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.from != nil {
		_ = c.from.Close() // It was only read.
	}
}

// limited reads no more bytes than there may be; whether they are all there is
// for their digest to say. It passes on why reading failed.
type limited struct {
	from io.Reader
	left int64
	fail func(error)
}

// Read implements io.Reader.
func (e *limited) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.from.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		e.fail(err)
	}
	return n, err
}
