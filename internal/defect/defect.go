// Package defect turns a panic into an error, so that one host's odd answer, or
// one odd object, cannot end the operator. It must never hide one: whoever takes
// the error over writes it down.
package defect

import "runtime/debug"

// PanicError is a defect of ours that a panic told of. What panicked is in a state
// that nobody knows: a connection counts as lost. Value and Stack may hold secrets.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return "a defect in the operator ended the request (its log has more)"
}

// Guard makes a panic in a call its error. It guards its own goroutine only: a
// call that begins another one guards what runs there.
func Guard[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return call()
}
