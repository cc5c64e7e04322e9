// Package redaction takes secrets out of text that is about to be shown: what a
// job printed, what a host answered, an error of a library.
//
// It owns the knowledge of the forms in which a secret turns up: as it is, in
// base64 (also in the middle of a longer base64 text), in UTF-16 as Windows
// writes it, escaped for a URL, for JSON and for XML.
//
// It promises that of a text not one occurrence of a form of a secret gets
// through, also where occurrences overlap or a stream is cut in the middle of
// one; that it takes time in proportion to the text whatever the text is; and
// that what it holds of a stream is bounded. A Redactor prints as a constant.
//
// It hides what is printed whole. A secret that is cut, reversed or encrypted
// before it is printed is not recognised, and secrets of fewer than four bytes
// are left alone: they would turn the text into holes. It must never do any
// I/O of its own, and it is the last line, not the first: secrets should not
// reach a text at all.
package redaction
