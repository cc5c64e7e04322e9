package fleet

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Limits, in bytes, of what is kept of a text that came from a host.
const (
	longestWord    = 128      // a state, a time, an id
	longestName    = 256      // a name, a fact
	longestKey     = 8 << 10  // a host key
	longestPath    = 4 << 10  // a path, a description
	longestCommand = 32 << 10 // a command line: Windows takes no longer one
	longestOutput  = 4 << 10  // what a script or job printed
	longestProblem = 1 << 10
)

// seed of the fingerprints of raw answers; an answer is compared within this process only.
var seed = maphash.MakeSeed()

// adopt makes of what a host answered what is kept of it: only what was asked,
// of the types that there are, bounded, and without secrets where it is text for
// people. Names, paths and command lines are compared with what is declared,
// and are bounded only: a redacted one would differ for ever.
//
// An answer that is still the same is not looked at again.
func (l *link) adopt(checks []machine.Check, raw map[machine.Check]machine.Answer) (map[machine.Check]machine.Answer, map[machine.Check]uint64) {
	adopted := make(map[machine.Check]machine.Answer, len(checks))
	prints := map[machine.Check]uint64{}
	for _, check := range checks {
		if answer := raw[check]; speaks(answer) {
			prints[check] = maphash.Comparable(seed, answer)
		}
	}
	l.mu.Lock()
	clean := l.cleaner()
	for check, print := range prints {
		if known, ok := l.prints[check]; ok && known == print && l.answers[check] != nil {
			adopted[check] = l.answers[check]
		}
	}
	l.mu.Unlock()
	for _, check := range checks {
		if adopted[check] == nil {
			adopted[check] = clean.answer(raw[check])
		}
	}
	return adopted, prints
}

// speaks tells whether an answer has text for people.
func speaks(answer machine.Answer) bool {
	switch a := answer.(type) {
	case machine.Problem:
		return true
	case machine.JobState:
		return a.Message != ""
	case machine.ScriptState:
		return a.Output != ""
	}
	return false
}

func (c *cleaner) answer(answer machine.Answer) machine.Answer {
	switch a := answer.(type) {
	case nil:
		return machine.Problem{Reason: "Failed", Message: "the host gave no answer"}
	case machine.Problem:
		a.Reason, a.Message = bound(a.Reason, longestWord), c.head(a.Message, longestProblem)
		return a
	case machine.JobState:
		a.Message = c.tail(a.Message, longestOutput)
		bounds(longestWord, (*string)(&a.Phase), &a.BootID, &a.Started, &a.Finished)
		return a
	case machine.ScriptState:
		a.Output = c.tail(a.Output, longestOutput)
		return a
	case machine.FileState:
		bounds(longestWord, (*string)(&a.Kind), &a.SHA256)
		bounds(longestName, &a.Owner, &a.Group)
		return a
	case machine.UnitState:
		bounds(longestWord, &a.Load, &a.Active, &a.Sub, &a.Enabled, &a.Result, &a.Instance, &a.Since)
		bounds(longestPath, &a.Fragment)
		return a
	case machine.WindowsServiceState:
		bounds(longestWord, &a.State, &a.StartMode, &a.Instance, &a.Since)
		bounds(longestName, &a.DisplayName, &a.Account)
		bounds(longestPath, &a.Description)
		bounds(longestCommand, &a.BinaryPath)
		return a
	case machine.MarkState:
		bounds(longestWord, &a.Owner.Cluster, &a.Owner.UID, &a.Started, &a.Instance, &a.Pending, &a.Before)
		bounds(2*longestName, &a.Owner.Object)
		return a
	}
	return machine.Problem{Reason: "Failed", Message: fmt.Sprintf("the answer is of an unknown kind, %T", answer)}
}

func bounds(limit int, texts ...*string) {
	for _, text := range texts {
		*text = bound(*text, limit)
	}
}

// own gives an answer texts of its own: a piece of a text holds all of it in memory.
func own(answer machine.Answer) machine.Answer {
	switch a := answer.(type) {
	case machine.Problem:
		clones(&a.Reason, &a.Message)
		return a
	case machine.JobState:
		clones((*string)(&a.Phase), &a.BootID, &a.Started, &a.Finished, &a.Message)
		return a
	case machine.ScriptState:
		clones(&a.Output)
		return a
	case machine.FileState:
		clones((*string)(&a.Kind), &a.SHA256, &a.Owner, &a.Group)
		return a
	case machine.UnitState:
		clones(&a.Load, &a.Active, &a.Sub, &a.Enabled, &a.Result, &a.Fragment, &a.Instance, &a.Since)
		return a
	case machine.WindowsServiceState:
		clones(&a.State, &a.StartMode, &a.DisplayName, &a.Description, &a.BinaryPath, &a.Account, &a.Instance, &a.Since)
		return a
	case machine.MarkState:
		clones(&a.Owner.Cluster, &a.Owner.UID, &a.Owner.Object, &a.Started, &a.Instance, &a.Pending, &a.Before)
		return a
	}
	return answer
}

func clones(texts ...*string) {
	for _, text := range texts {
		*text = strings.Clone(*text)
	}
}

func (c *cleaner) facts(f machine.Facts) machine.Facts {
	for _, text := range []*string{&f.Hostname, &f.OSName, &f.OSVersion, &f.Kernel, &f.Architecture, &f.InitSystem} {
		*text = strings.Clone(c.head(*text, longestName))
	}
	f.BootID = strings.Clone(bound(f.BootID, longestWord))
	return f
}

// plain is a peer as far as it can be kept. A key that is too long is none.
func (p Peer) plain() Peer {
	if _, err := netip.ParseAddr(p.Address); err != nil {
		p.Address = ""
	}
	p.HostKey, p.Fingerprint = plainKey(p.HostKey), strings.Clone(bound(p.Fingerprint, longestName))
	return p
}

func plainKey(key string) string {
	if len(key) > longestKey {
		return ""
	}
	return strings.Clone(key)
}
