// Package janitor undoes what a test bed has set up, in reverse order, whatever
// ends the test bed: a normal Close, a failed test, Ctrl-C, a panic or SIGKILL.
//
// It owns a journal (a file with one line for each thing to undo, written before
// that thing is made) and one shell process in a session of its own that waits
// on a pipe. When the pipe closes, which the kernel does for an owner that dies
// in any way, the shell reads the journal backwards and undoes each line.
//
// It promises that undoing is idempotent (a line whose thing is gone is passed
// over) and that a process is ended only if its PID still has the start time
// that was recorded. It must never end a process by name, and never remove a
// path, link, namespace or mount that its owner did not record.
package janitor
