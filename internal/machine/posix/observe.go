package posix

import (
	"context"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	// maxHashed is the size up to which a file's content is read.
	maxHashed = 256 << 20
	// An answer may be this large: so much for all, and so much for each check.
	answerBase     = 64 << 10
	answerPerCheck = 8 << 10
	answerLimit    = 16 << 20
)

// Observe implements machine.Machine.
func (m *Machine) Observe(ctx context.Context, checks []machine.Check) (machine.Observation, error) {
	began := m.options.Clock.Now()
	q := newQuestions(checks)
	r := m.newRequest()
	m.compile(ctx, r, q)
	limit := min(answerLimit, answerBase+len(checks)*answerPerCheck)
	for _, c := range q.scripts {
		limit += margin(machine.DecodeEnvironment(c.Environment))
	}
	r.lasting = len(q.scripts) > 0
	answer, truncated, err := m.send(ctx, "observe", r, limit)
	if err != nil {
		return machine.Observation{}, err
	}
	observation := machine.Observation{Answers: q.refused}
	if truncated {
		q.refuseAll(machine.Problem{Reason: "TooLarge", Message: "the host's answer is too large"})
	} else {
		observation.BootID = m.read(answer, r.nonce, q)
	}
	observation.Took = m.options.Clock.Since(began)
	return observation, nil
}

// questions are the checks of one pass by kind, each once. Those that cannot be
// asked have their answer already.
type questions struct {
	files    []string
	units    []string
	marks    []machine.Subject
	receipts []string
	scripts  []machine.Script
	refused  map[machine.Check]machine.Answer
}

func newQuestions(checks []machine.Check) *questions {
	q := &questions{refused: make(map[machine.Check]machine.Answer, len(checks))}
	seen := make(map[machine.Check]bool, len(checks))
	for _, check := range checks {
		if !seen[check] {
			seen[check] = true
			q.add(check)
		}
	}
	return q
}

func (q *questions) add(check machine.Check) {
	var err error
	switch c := check.(type) {
	case machine.File:
		if err = validPath(c.Path); err == nil {
			q.files = append(q.files, c.Path)
		}
	case machine.Unit:
		if err = validUnit(c.Name); err == nil {
			q.units = append(q.units, c.Name)
		}
	case machine.Mark:
		q.marks = append(q.marks, c.Subject)
	case machine.JobReceipt:
		if err = validJobID(c.ID); err == nil {
			q.receipts = append(q.receipts, c.ID)
		}
	case machine.Script:
		if err = validCheck(c); err == nil {
			q.scripts = append(q.scripts, c)
		}
	default:
		q.refused[check] = machine.Problem{Reason: "NotSupported", Message: "a POSIX host cannot answer this"}
	}
	if err != nil {
		q.refused[check] = failed(err.Error())
	}
}

// all calls do with each check that was asked.
func (q *questions) all(do func(machine.Check)) {
	for _, path := range q.files {
		do(machine.File{Path: path})
	}
	for _, name := range q.units {
		do(machine.Unit{Name: name})
	}
	for _, subject := range q.marks {
		do(machine.Mark{Subject: subject})
	}
	for _, id := range q.receipts {
		do(machine.JobReceipt{ID: id})
	}
	for _, c := range q.scripts {
		do(c)
	}
}

func (q *questions) refuseAll(problem machine.Problem) {
	q.all(func(check machine.Check) { q.refused[check] = problem })
}

func failed(message string) machine.Problem {
	return machine.Problem{Reason: "Failed", Message: message}
}

// unitProperties are all that a UnitState is made of.
const unitProperties = "LoadState,ActiveState,SubState,UnitFileState,Result,FragmentPath," +
	"NeedDaemonReload,MainPID,InvocationID,ActiveEnterTimestamp"

func (m *Machine) compile(ctx context.Context, r *request, q *questions) {
	r.line(`printf 'b %%s\n' "$B"`)
	r.use("observe")
	if len(q.files) > 0 {
		m.compileFiles(r, q.files)
	}
	if len(q.marks)+len(q.receipts) > 0 {
		r.use("process", "receipt", "observe_state")
	}
	for i, subject := range q.marks {
		r.line("mark %d %s", i, markName(subject))
	}
	for i, id := range q.receipts {
		r.line("receipt %d %s", i, quote(id))
	}
	if len(q.units) > 0 {
		compileUnits(r, q.units)
	}
	// The slowest come last: what stands before is answered whatever they do.
	if len(q.scripts) > 0 {
		m.compileScripts(ctx, r, q.scripts)
	}
}

func (m *Machine) compileFiles(r *request, paths []string) {
	r.use("observe_files")
	odd := " "
	for i, path := range paths {
		r.line("p%d=%s k%d=%s", i, quote(path), i, quote(m.files.known(path)))
		if isOdd(path) {
			odd += itoa(i) + " "
		}
	}
	r.line("O=%s L=%d", quote(odd), maxHashed)
	r.line("files %d", len(paths))
}

// isOdd tells the paths that sha256sum does not print as they are.
func isOdd(path string) bool { return strings.ContainsAny(path, "\\\n\r") }

// compileUnits asks for all units in one call. systemctl prints times in the
// zone of its environment.
func compileUnits(r *request, names []string) {
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = quote(name)
	}
	r.line(`printf '%%s units\n' "$n"`)
	r.line("TZ=UTC systemctl show -p %s -- %s 2>&1", unitProperties, strings.Join(words, " "))
	r.line(`printf '\n%%s units %%s\n' "$n" "$?"`)
}
