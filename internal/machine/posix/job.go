package posix

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

var (
	jobIDPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	errJobID     = errors.New("a job's id is 1 to 63 of a-z, 0-9 and -")
)

func validJobID(id string) error {
	if !jobIDPattern.MatchString(id) {
		return errJobID
	}
	return nil
}

// compileJob makes the script that the host runs by itself: as "supervise" it
// begins the job at most once, watches its time and writes its receipts; as
// "steps" it does the work. The bytes depend on nothing but the arguments.
func (m *Machine) compileJob(job machine.Job) (string, error) {
	if err := validJob(job); err != nil {
		return "", err
	}
	steps, err := m.compileSteps(job.Steps)
	if err != nil {
		return "", err
	}
	s := &script{}
	s.line("isthmus_job() {")
	s.use("prologue")
	m.jobVariables(s, job)
	// Shells that keep here-documents in files keep them here.
	s.line("TMPDIR=$J")
	s.line("export TMPDIR")
	s.use("epoch", "process", "flush", "supervise")
	compileRedaction(s, job)
	s.use(steps.fragments()...)
	s.WriteString(steps.text.String())
	s.line("steps() {")
	s.line(`rm -f "$J"/script.*`)
	for i := range job.Steps {
		s.line("at_step %d", i)
		s.line("step_%d", i)
	}
	s.line("exit 0")
	s.line("}")
	s.line(`"$1"`)
	s.line("}")
	s.line(`isthmus_job "$1"`)
	return s.String(), nil
}

func validJob(job machine.Job) error {
	switch {
	case validJobID(job.ID) != nil:
		return errJobID
	case job.Epoch < 0:
		return errors.New("a job's epoch is not negative")
	case job.Timeout <= 0:
		return errors.New("a job needs a timeout")
	case len(job.Steps) == 0:
		return errors.New("a job needs steps")
	}
	return nil
}

func (m *Machine) jobVariables(s *script, job machine.Job) {
	s.line("S=%s", quote(m.options.StateDir))
	s.line("I=%s", job.ID)
	s.line("E=%019d", job.Epoch)
	s.line("T=%d", seconds(job.Timeout))
	s.line("J=$S/jobs/$I")
	s.line("H=%s", m.shell)
}

// unsupported is for the steps of another kind of host.
func unsupported(step machine.Step) error {
	return fmt.Errorf("%s is not supported on a POSIX host", strings.TrimPrefix(fmt.Sprintf("%T", step), "machine."))
}
