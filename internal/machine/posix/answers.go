package posix

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// maxMessage is how much of a job's message is kept, in bytes.
const maxMessage = 2 << 10

// noAnswer is for a check that the host passed over, or answered with nonsense.
var noAnswer = failed("the host gave no answer that can be read")

// denied is for what the user that we are may not look at, closed for what is in the state directory.
var (
	denied = machine.Problem{Reason: "AccessDenied", Message: "the user on the host may not look at it"}
	closed = machine.Problem{
		Reason:  "AccessDenied",
		Message: "the user on the host may not look into the state directory: set spec.ssh.become of the Host, or a spec.stateDirectory that belongs to the user",
	}
)

// read puts an answer to every question and returns the boot id. An answer is
// lines of a tag, mostly the number of a check, and a rest. What does not fit is
// passed over: a host can only leave its own checks unanswered.
func (m *Machine) read(answer, nonce string, q *questions) (bootID string) {
	answer, scripts, _ := strings.Cut(answer, "\n"+nonce+" scripts\n")
	answer, units := cutUnits(answer, nonce)
	read := &reading{questions: q, files: make([]fileReading, len(q.files)), marks: make([]markReading, len(q.marks)), jobs: make([]jobReading, len(q.receipts))}
	for line := range strings.Lines(answer) {
		read.line(strings.TrimSuffix(line, "\n"))
	}
	for i, path := range q.files {
		q.refused[machine.File{Path: path}] = m.fileAnswer(path, read.files[i])
	}
	for i, subject := range q.marks {
		q.refused[machine.Mark{Subject: subject}] = read.marks[i].answer()
	}
	for i, id := range q.receipts {
		q.refused[machine.JobReceipt{ID: id}] = read.jobs[i].answer()
	}
	if len(q.units) > 0 {
		answerUnits(units, q)
	}
	answerScripts(scripts, nonce, q)
	return read.bootID
}

// cutUnits takes out what systemctl printed, and its exit code in the end.
func cutUnits(answer, nonce string) (rest, units string) {
	before, after, found := strings.Cut(answer, nonce+" units\n")
	if !found {
		return answer, ""
	}
	units, after, _ = strings.Cut(after, "\n"+nonce+" units ")
	return before + after, units
}

// reading is an answer that is being read: one place for each check.
type reading struct {
	questions *questions
	bootID    string
	files     []fileReading
	marks     []markReading
	jobs      []jobReading
}

var digestLine = regexp.MustCompile(`^\\?([0-9a-f]{64}) [ *](.*)$`)

func (r *reading) line(line string) {
	if found := digestLine.FindStringSubmatch(line); found != nil {
		r.digest(found[1], found[2])
		return
	}
	tag, rest, _ := strings.Cut(line, " ")
	if tag == "b" {
		r.bootID = word(excerpt(rest))
		return
	}
	if tag == "r" {
		clear(r.files)
		return
	}
	number, rest, _ := strings.Cut(rest, " ")
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 {
		return
	}
	switch tag {
	case "f", "h", "a", "p":
		if i < len(r.files) {
			r.files[i].line(tag, rest)
		}
	case "m", "n", "d":
		if i < len(r.marks) {
			r.marks[i].line(tag, rest)
		}
	case "j", "o", "D":
		if i < len(r.jobs) {
			r.jobs[i].line(tag, rest)
		}
	}
}

func (r *reading) digest(sum, path string) {
	for i, asked := range r.questions.files {
		if asked == path {
			r.files[i].digest = sum
		}
	}
}

// markReading is a mark that is being read. Its last line is "end".
type markReading struct {
	state machine.MarkState
	known bool
	err   *machine.Problem
}

func (r *markReading) line(tag, rest string) {
	switch tag {
	case "n":
		r.known = true
		return
	case "d":
		r.err = &closed
		return
	}
	key, value, _ := strings.Cut(rest, " ")
	s := &r.state
	switch key {
	case "cluster":
		s.Owner.Cluster = value
	case "uid":
		s.Owner.UID = value
	case "object":
		s.Owner.Object = value
	case "adopted":
		s.Adopted = value == "true"
	case "started":
		s.Started = value
	case "instance":
		s.Instance = value
	case "pending":
		s.Pending = value
	case "before":
		s.Before = value
	case "end":
		s.Exists, r.known = true, true
	}
}

func (r *markReading) answer() machine.Answer {
	switch {
	case r.err != nil:
		return *r.err
	case !r.known:
		return noAnswer
	default:
		return r.state
	}
}

// jobReading is a receipt that is being read.
type jobReading struct {
	state   machine.JobState
	known   bool
	message strings.Builder
	err     *machine.Problem
}

func (r *jobReading) line(tag, rest string) {
	switch tag {
	case "D":
		r.err = &closed
	case "j":
		r.state, r.known = parseJobState(rest)
	case "o":
		if r.message.Len() < maxMessage {
			r.message.WriteString(rest + "\n")
		}
	}
}

func (r *jobReading) answer() machine.Answer {
	switch {
	case r.err != nil:
		return *r.err
	case !r.known:
		return noAnswer
	}
	state := r.state
	state.Message = tidy(r.message.String(), maxMessage)
	return state
}

// tidy keeps the end of what was printed, whole characters only.
func tidy(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
	if len(text) > limit {
		text = text[len(text)-limit:]
	}
	return strings.TrimSpace(strings.ToValidUTF8(text, "?"))
}

var jobPhases = map[string]machine.JobPhase{
	"Absent":    machine.JobAbsent,
	"Running":   machine.JobRunning,
	"Succeeded": machine.JobSucceeded,
	"Failed":    machine.JobFailed,
	"Lost":      machine.JobLost,
	"Cancelled": machine.JobCancelled,
}

// parseJobState reads "PHASE EPOCH BOOT BEGUN ENDED CODE STEP", where - stands for nothing.
func parseJobState(line string) (machine.JobState, bool) {
	fields := strings.Fields(line)
	if len(fields) != 7 {
		return machine.JobState{}, false
	}
	phase, known := jobPhases[fields[0]]
	epoch, epochErr := strconv.ParseInt(fields[1], 10, 64)
	code, codeErr := strconv.Atoi(fields[5])
	step, stepErr := strconv.Atoi(fields[6])
	if !known || epochErr != nil || codeErr != nil || stepErr != nil {
		return machine.JobState{}, false
	}
	if phase == machine.JobAbsent {
		return machine.JobState{Phase: phase}, true
	}
	return machine.JobState{
		Phase:    phase,
		Epoch:    epoch,
		BootID:   word(fields[2]),
		Started:  word(fields[3]),
		Finished: word(fields[4]),
		ExitCode: code,
		Step:     step,
	}, true
}

func word(field string) string {
	if field == "-" {
		return ""
	}
	return field
}
