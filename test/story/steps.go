package story

import (
	"context"
	"fmt"
	"io"
	"time"
)

// namespace is the team's, as config/samples/shop names it.
const namespace = "shop"

// Step is one chapter: what a platform engineer does, and what must then be seen.
type Step struct {
	// Name is one word, for `go test -run`.
	Name string
	// Title says what happens, in a sentence.
	Title string
	run   func(ctx context.Context, b *Bed, tell Teller) error
}

// Run carries the step out. It returns nil only if all was seen to hold.
func (s Step) Run(ctx context.Context, b *Bed, out io.Writer) error {
	if err := s.run(ctx, b, Teller{out: out, began: time.Now()}); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// Steps is the story, in order: each step builds on the one before.
func Steps() []Step {
	return []Step{
		{"install", "two hosts are declared; a wrong password is tried once, the right one at once", runInstall},
		{"deploy", "orders (Windows), ledger (Linux) and gateway (a Deployment) become Ready in order", runDeploy},
		{"request", "a request to the gateway Pod answers with data from both machines", runRequest},
		{"drift", "someone stops the Windows service and edits the unit file: both are put back", runDrift},
		{"unreachable", "the Linux host is cut off: conditions go Unknown, nothing is touched, it recovers", runUnreachable},
		{"crash", "the operator is killed with SIGKILL in the middle of updates: each effect happens once", runCrash},
		{"delete", "the application is deleted: reverse order, machines clean", runDelete},
	}
}

// Teller prints what is seen, with the seconds since its step began.
type Teller struct {
	out   io.Writer
	began time.Time
}

// Say prints one line.
func (t Teller) Say(format string, args ...any) {
	// A line that cannot be printed is not worth failing the story for.
	_, _ = fmt.Fprintf(t.out, "  %6.1fs  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
}
