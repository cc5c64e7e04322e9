package posix

import (
	"io"
	"sync"
)

// talk is the input of a request, written as the host answers. Its Read waits for
// the next thing to say, and ends with the request: on the host the end of the
// input is the sign that nobody waits any more.
type talk struct {
	pieces chan io.Reader
	done   chan struct{}
	once   sync.Once
	now    io.Reader
}

// maxPieces is more than any request says; say never blocks.
const maxPieces = 8

func newTalk() *talk {
	return &talk{pieces: make(chan io.Reader, maxPieces), done: make(chan struct{})}
}

func (t *talk) say(piece io.Reader) { t.pieces <- piece }

// end of the input, once what was said has been read.
func (t *talk) end() { t.pieces <- nil }

// hangUp ends the input at once. It may be called more than once.
func (t *talk) hangUp() { t.once.Do(func() { close(t.done) }) }

// Read implements io.Reader.
func (t *talk) Read(p []byte) (int, error) {
	for {
		if t.now == nil {
			select {
			case <-t.done:
				return 0, io.EOF
			case t.now = <-t.pieces:
				if t.now == nil {
					t.hangUp()
				}
				continue
			}
		}
		n, err := t.now.Read(p)
		if err == nil {
			return n, nil
		}
		t.now = nil
		if err != io.EOF {
			t.hangUp()
		}
		if n > 0 {
			return n, nil
		}
	}
}
