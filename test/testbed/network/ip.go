package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// commandError is a program that ran and failed.
type commandError struct {
	argv   []string
	stderr string
	err    error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.argv, " "), e.err, e.stderr)
}

func (e *commandError) Unwrap() error { return e.err }

// run runs a program to its end, with input on its standard input.
func run(ctx context.Context, input io.Reader, argv ...string) ([]byte, error) {
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, &commandError{argv: argv, stderr: strings.TrimSpace(stderr.String()), err: err}
	}
	return out.Bytes(), nil
}

// ip runs ip(8).
func ip(ctx context.Context, args ...string) ([]byte, error) {
	return run(ctx, nil, append([]string{"ip"}, args...)...)
}

// exists recognises the kernel's EEXIST, which ip(8) tells in words only.
func exists(err error) bool {
	var failed *commandError
	return errors.As(err, &failed) && strings.Contains(failed.stderr, "File exists")
}
