package transport

import "runtime/debug"

// PanicError is a defect of ours that a panic told of, so that one host's odd
// answer cannot end the operator. What panicked is in a state that nobody knows:
// the connection counts as lost. Value and Stack may hold secrets.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return "a defect in the operator ended the request (its log has more)"
}

// Guarded makes a panic in a call its error. It guards its own goroutine only: a
// call that begins another one guards what runs there.
func Guarded[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return call()
}
