package transport

import "io"

// Request is one command on a host that has shells (SSH).
type Request struct {
	// Command is what the login shell is given. No secret belongs here: it shows in the host's process list.
	Command string
	// Stdin is what the command reads; nil: nothing. Its Read may block until the
	// context of Run ends, or Run has returned, and must end then: Run waits for no
	// Read that blocks, and begins none that could follow its return by more than a moment.
	// While Read blocks the command's input stays open. On the host it ends when Run is
	// cancelled or the connection is lost, so a command can learn from its input that nobody waits for it.
	Stdin io.Reader
	// MaxStdout and MaxStderr bound what is kept, in bytes: the first and the last half. Zero: 256 KiB each.
	MaxStdout, MaxStderr int
	// OnStdout and OnStderr, where set, are given the output while the command runs: all of
	// it, however much is kept, in order, by one goroutine for each stream, and never after
	// Run has returned. A chunk is theirs until they return. They must not block: meanwhile
	// nothing more is read, and Run does not return.
	OnStdout, OnStderr func(chunk []byte)
}

// Result is how a command ended. A non-zero exit code is a result, not an error.
type Result struct {
	ExitCode       int
	Signal         string // without SIG: the signal that ended the command; ExitCode is then 128 + its number
	Stdout, Stderr []byte
	Truncated      bool // the middle of Stdout or Stderr was dropped
}
