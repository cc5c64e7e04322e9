package redaction

import (
	"errors"
	"fmt"
	"io"
)

// Writer hides secrets in a stream. It holds back as many bytes as the longest
// secret has, less one, and no more however long a run of matches is. It is for one goroutine.
type Writer struct {
	out     io.Writer
	scan    *scan // nil: nothing to hide
	held    []byte
	base    int    // position in the stream of the first byte that is held
	hidden  []span // among the bytes that are held, in order, with a gap between any two
	pending []byte // what is ready to be passed on
	err     error
	closed  bool
}

// span is a part of the stream that is not shown. It is announced once.
type span struct {
	start, end int
	announced  bool
}

// batch bounds what is gathered before it is passed on.
const batch = 4096

// ErrClosed is returned for what is written after Close.
var ErrClosed = errors.New("write to a closed redaction writer")

// Write implements io.Writer. An error of the stream below stays.
func (w *Writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.scan == nil {
		n, err := w.out.Write(p)
		w.err = err
		return n, err
	}
	for i, symbol := range p {
		w.take(symbol)
		if len(w.held) >= w.scan.m.longest+batch {
			if w.release(w.settled()); w.err != nil {
				return i, w.err
			}
		}
	}
	w.release(w.settled())
	return len(p), w.err
}

func (w *Writer) take(symbol byte) {
	w.held = append(w.held, symbol)
	if length := w.scan.feed(symbol); length > 0 {
		w.hide(w.end()-length, w.end())
	}
}

// end is the position after the last byte that was taken.
func (w *Writer) end() int { return w.base + len(w.held) }

// settled is the position up to which no later byte can change what is hidden.
func (w *Writer) settled() int { return w.end() - w.scan.m.longest + 1 }

// hide adds a span, and makes one of all that it touches: nothing of a secret
// is left between two that overlap.
func (w *Writer) hide(start, end int) {
	s := span{start: start, end: end}
	for n := len(w.hidden); n > 0 && w.hidden[n-1].end >= s.start; n-- {
		last := w.hidden[n-1]
		s.start = min(s.start, last.start)
		s.announced = s.announced || last.announced
		w.hidden = w.hidden[:n-1]
	}
	w.hidden = append(w.hidden, s)
}

// release passes on, or drops, what is held before a position.
func (w *Writer) release(before int) {
	from := w.base
	for from < before {
		from = w.releaseNext(from, before)
	}
	w.held = w.held[from-w.base:] // append makes room for what is left when it must
	w.base = from
	if len(w.pending) > 0 && w.err == nil {
		_, w.err = w.out.Write(w.pending)
	}
	w.pending = w.pending[:0]
}

// releaseNext goes on to the end of the next piece that is either shown or not.
func (w *Writer) releaseNext(from, before int) int {
	if len(w.hidden) == 0 || w.hidden[0].start >= before {
		return w.show(from, before)
	}
	next := &w.hidden[0]
	if from < next.start {
		return w.show(from, next.start)
	}
	if !next.announced {
		w.pending = append(w.pending, Replacement...)
		next.announced = true
	}
	if next.end >= before { // it may still grow
		return before
	}
	end := next.end
	w.hidden = w.hidden[1:]
	return max(from, end)
}

func (w *Writer) show(from, to int) int {
	w.pending = append(w.pending, w.held[from-w.base:to-w.base]...)
	return to
}

// Close passes on what was held back. It does not close the stream below.
func (w *Writer) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	if w.scan != nil && w.err == nil {
		w.release(w.end())
	}
	return w.err
}

// Format implements fmt.Formatter: what is held back may be a secret.
func (w Writer) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, Replacement) }
