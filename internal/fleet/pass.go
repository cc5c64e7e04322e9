package fleet

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// question is what a pass asks: the union of checks at the moment of asking.
type question struct {
	checks   []machine.Check
	revision int
	pass     int
	at       time.Time
}

// finding is what a pass learnt.
type finding struct {
	request  string // RequestedAt of the endpoint that was asked
	question question
	conn     *connection
	facts    *machine.Facts // nil: as before
	heard    uint64         // print of the facts, as they came
	observed machine.Observation
	prints   map[machine.Check]uint64 // of answers with text, as they came
	err      error
}

// beginPass begins the pass whose time has come. The caller holds mu.
func (l *link) beginPass(now time.Time) {
	if l.passing != nil || l.nextPass.IsZero() || l.nextPass.After(now) {
		return
	}
	generation, endpoint, conn := l.generation, l.endpoint, l.conn
	request := endpoint.RequestedAt
	if request == l.status.Answered {
		endpoint.RequestedAt = "" // Nobody waits for it any longer.
	}
	var bootID string
	if l.status.Facts != nil {
		bootID = l.status.Facts.BootID
	}
	dialing, cancel := context.WithCancel(context.Background())
	look := look{link: l, dialing: dialing, endpoint: endpoint, conn: conn.hold(), generation: generation, bootID: bootID}
	begun := l.fleet.work.begin(func(ctx context.Context) {
		defer context.AfterFunc(ctx, cancel)()
		defer cancel()
		found := look.run(ctx)
		found.request = request
		l.endPass(generation, found)
	})
	if !begun {
		cancel()
		conn.release()
		return
	}
	l.passing, l.again = cancel, false
}

// endPass takes over what the pass learnt.
func (l *link) endPass(generation int, found finding) {
	l.logDefect(found.err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passing = nil
	defer l.settle()
	if generation != l.generation {
		// l.nextPass is what the new generation planned.
		found.conn.release()
		found.conn.retire()
		return
	}
	l.status.Answered = found.request
	if found.err != nil {
		l.fail(found.err, found.conn)
	} else {
		l.learn(found)
	}
	found.conn.release()
	if found.request != l.endpoint.RequestedAt {
		l.answerNext(found.request)
	}
}

// answerNext has a look made for a request that came while the one for an earlier
// request was on its way, also where that one found that nothing more is to be tried.
func (l *link) answerNext(earlier string) {
	l.status.Answered, l.refused.requestedAt = earlier, earlier
	l.nextPass = l.now()
}

// learn takes over the answers of a host.
func (l *link) learn(found finding) {
	now := l.now()
	if l.conn != found.conn {
		l.conn.retire()
		l.conn = found.conn
	}
	first := l.status.State != Connected || l.status.Version != l.endpoint.Version
	if found.facts != nil && (l.status.Facts == nil || *l.status.Facts != *found.facts) {
		l.status.Facts = found.facts
	}
	if found.facts != nil {
		l.heard = found.heard
	}
	if l.bootID != found.observed.BootID {
		l.bootID = found.observed.BootID
		l.touchAll()
	}
	l.meet(found.conn.peer)
	l.failures, l.refused = 0, refusedLogin{}
	l.status.LastSeen, l.status.Version, l.status.Unpinned = now, l.endpoint.Version, false
	l.setState(Connected, "")
	l.learnAnswers(found.observed.Answers, found.prints, found.question)
	l.planPass(now, first)
	if l.again || l.wanted > found.question.revision {
		l.again = false
		l.nextPass = now
	}
}

// meet takes over what the connection tells of the other end.
func (l *link) meet(peer Peer) {
	if peer.Address != l.address {
		l.address = peer.Address
		l.touchAll()
	}
	if peer.HostKey != "" {
		l.status.SeenKey = peer.HostKey
	}
	if peer.Fingerprint != "" {
		l.status.Fingerprint = peer.Fingerprint
	}
}

// planPass plans the next pass after one that was answered: soon while a job
// runs, and ever less so the longer it does.
func (l *link) planPass(now time.Time, first bool) {
	pause := jitter(l.interval())
	if first {
		pause = spread(l.interval())
	}
	if !l.jobRuns() {
		l.ramp = 0
	} else {
		l.ramp = min(max(2*l.ramp, time.Second), l.interval())
		pause = min(pause, l.ramp)
	}
	l.nextPass = now.Add(pause)
}

func (l *link) jobRuns() bool {
	for _, check := range l.checks {
		if state, ok := l.answers[check].(machine.JobState); ok && state.Phase == machine.JobRunning {
			return true
		}
	}
	return false
}

// fail takes over that the host could not be asked, by a pass or a job over conn (nil: none was made).
func (l *link) fail(err error, conn *connection) {
	if !l.fleet.work.running() {
		// The operator ends, which says nothing about the host. The connection may be a new one, of which nobody else knows.
		conn.retire()
		return
	}
	verdict, message := judge(err), l.describe(err)
	if l.conn != nil && l.conn == conn {
		l.conn = nil
	}
	if conn != nil {
		conn.sever()
	}
	l.refuseQueue(message + "; nothing was done")
	l.status.Version = l.endpoint.Version
	l.status.Unpinned = verdict.unpinned
	if verdict.seen != "" {
		l.status.SeenKey, l.status.Fingerprint = verdict.seen, verdict.fingerprint
	}
	l.setState(verdict.state, message)
	if verdict.state == CredentialsRefused {
		l.refused = refusedLogin{l.endpoint.login(), l.endpoint.RequestedAt, message}
	}
	if verdict.state != Unreachable {
		// Nothing more is tried; and what is in flight, as a pass beside the job that
		// was refused, may not bring the link back.
		l.generation++
		l.nextPass = time.Time{}
		l.status.Answered = l.endpoint.RequestedAt
		if verdict.state == Fenced {
			l.cancels = nil // They are the newer leader's to ask for.
		}
		return
	}
	l.failures++
	l.nextPass = l.now().Add(backoff(l.failures))
}

// lose lets go of a connection that turned out to be dead.
func (l *link) lose(conn *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn {
		l.conn = nil
	}
}

// logDefect writes down where a machine panicked.
func (l *link) logDefect(err error) {
	var panicked *defect.PanicError
	if errors.As(err, &panicked) {
		l.mu.Lock()
		clean := l.cleaner()
		l.mu.Unlock()
		value := clean.head(fmt.Sprint(panicked.Value), longestOutput)
		l.fleet.options.Log.Error(err, "A machine panicked", "host", l.key, "panic", value, "stack", clean.head(string(panicked.Stack), 4*longestOutput))
	}
}

// look is one pass over a host, outside the link's lock.
type look struct {
	link       *link
	dialing    context.Context // ends when the endpoint is no longer the one to dial
	endpoint   Endpoint
	generation int
	conn       *connection // held; nil: none
	bootID     string      // that the facts are known of
}

// run asks over the kept connection, or over a new one. A kept connection that
// turns out to be dead says nothing about the host, so one new connection is
// tried before the host counts as unreachable.
func (p *look) run(ctx context.Context) finding {
	kept := p.conn != nil
	found := p.ask(ctx)
	var lost *transport.LostError
	if !kept || !errors.As(found.err, &lost) || errors.Is(found.err, context.DeadlineExceeded) || ctx.Err() != nil {
		return found
	}
	p.link.lose(p.conn)
	p.conn.sever()
	p.conn.release()
	p.conn = nil
	return p.ask(ctx)
}

func (p *look) ask(ctx context.Context) (found finding) {
	fresh := p.conn == nil
	if fresh {
		if p.conn, found.err = p.connect(); found.err != nil {
			return found
		}
	}
	found.conn = p.conn
	if fresh {
		if found.facts, found.heard, found.err = p.facts(ctx); found.err != nil {
			return found
		}
		p.bootID = found.facts.BootID
	}
	found.question = p.link.question(p.generation)
	found.observed, found.prints, found.err = p.observe(ctx, found.question.checks)
	if found.err == nil && found.observed.BootID != "" && found.observed.BootID != p.bootID {
		found.facts, found.heard, found.err = p.facts(ctx)
	}
	return found
}

// question fixes what is asked now.
func (l *link) question(generation int) question {
	l.mu.Lock()
	defer l.mu.Unlock()
	if generation == l.generation {
		l.passes++
	}
	return question{checks: slices.Clone(l.checks), revision: l.revision, pass: l.passes, at: l.now()}
}

func (p *look) observe(ctx context.Context, checks []machine.Check) (machine.Observation, map[machine.Check]uint64, error) {
	observed, err := request(ctx, p.conn, timeout(p.endpoint.Spec), func(ctx context.Context) (machine.Observation, error) {
		return p.conn.machine.Observe(ctx, checks)
	})
	if err != nil {
		return observed, nil, err
	}
	var prints map[machine.Check]uint64
	observed.Answers, prints = p.link.adopt(checks, observed.Answers)
	observed.BootID = strings.Clone(bound(observed.BootID, longestWord))
	return observed, prints, nil
}

func (p *look) facts(ctx context.Context) (*machine.Facts, uint64, error) {
	facts, err := request(ctx, p.conn, timeout(p.endpoint.Spec), p.conn.machine.Facts)
	if err != nil {
		return nil, 0, err
	}
	heard := maphash.Comparable(seed, facts)
	p.link.mu.Lock()
	clean, same, known := p.link.cleaner(), p.link.heard == heard, p.link.status.Facts
	p.link.mu.Unlock()
	if same && known != nil {
		return known, heard, nil
	}
	facts = clean.facts(facts)
	return &facts, heard, nil
}
