package transport

import "io"

// Request is one command on a host that has shells (SSH).
type Request struct {
	// Command is what the login shell is given. No secret belongs here: it shows in the host's process list.
	Command string
	// Stdin is what the command reads; nil: nothing. Its Read must not block for
	// ever. Run begins no Read after it has returned.
	Stdin io.Reader
	// MaxStdout and MaxStderr bound what is kept, in bytes: the first and the last half. Zero: 256 KiB each.
	MaxStdout, MaxStderr int
}

// Result is how a command ended. A non-zero exit code is a result, not an error.
type Result struct {
	ExitCode       int
	Signal         string // without SIG: the signal that ended the command; ExitCode is then 128 + its number
	Stdout, Stderr []byte
	Truncated      bool // the middle of Stdout or Stderr was dropped
}
