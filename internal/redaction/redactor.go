package redaction

import (
	"bytes"
	"fmt"
	"io"
)

// Replacement stands where a secret stood.
const Replacement = "[redacted]"

const (
	shortestLine = 6
	// linesOfSecret bounds the memory for a secret that is a file. Its lines
	// beyond are hidden where the file is printed, not where one is printed alone.
	linesOfSecret = 256
)

// Redactor hides secrets. A nil Redactor hides nothing. It may be used from
// several goroutines.
type Redactor struct {
	// scan begins a stream; nil when there is nothing to hide. A function, because
	// no verb of fmt looks into one, wherever the Redactor is a field.
	scan func() *scan
}

// New returns a Redactor for these secrets and, where one has several lines,
// for each line of at least six bytes: programs print line by line.
func New(secrets ...[]byte) *Redactor {
	var forms [][]byte
	for _, secret := range secrets {
		forms = append(forms, Forms(secret)...)
		for _, line := range lines(secret) {
			forms = append(forms, Forms(line)...)
		}
	}
	if len(forms) == 0 {
		return &Redactor{}
	}
	m := newMatcher(forms)
	return &Redactor{scan: func() *scan { return &scan{m: m} }}
}

// lines of a secret that has several.
func lines(secret []byte) [][]byte {
	if !bytes.ContainsRune(bytes.TrimRight(secret, "\r\n"), '\n') {
		return nil
	}
	var found [][]byte
	for line := range bytes.Lines(secret) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) >= shortestLine {
			found = append(found, line)
		}
		if len(found) == linesOfSecret {
			break
		}
	}
	return found
}

// String returns the text without secrets.
func (r *Redactor) String(text string) string {
	if r.empty() {
		return text
	}
	return string(r.Bytes([]byte(text)))
}

// Bytes returns the text without secrets. It may be the text itself, which is never changed.
func (r *Redactor) Bytes(text []byte) []byte {
	if r.empty() {
		return text
	}
	var out bytes.Buffer
	out.Grow(len(text))
	w := r.Writer(&out)
	_, _ = w.Write(text) // a Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

func (r *Redactor) empty() bool { return r == nil || r.scan == nil }

// Writer returns a Writer that passes on to out what is written to it, without
// secrets. Close it to have the end written; out is not closed.
func (r *Redactor) Writer(out io.Writer) *Writer {
	w := &Writer{out: out}
	if !r.empty() {
		w.scan = r.scan()
	}
	return w
}

// Format implements fmt.Formatter: however a Redactor is printed, it shows nothing.
func (Redactor) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, Replacement) }

// MarshalJSON implements json.Marshaler.
func (Redactor) MarshalJSON() ([]byte, error) { return []byte(`"` + Replacement + `"`), nil }
