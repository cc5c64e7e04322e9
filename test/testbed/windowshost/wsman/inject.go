package wsman

import (
	"strings"
	"sync"
	"time"
)

// Trouble is what happens to a request instead of, or beside, its being served.
type Trouble int

const (
	// DropBefore closes the connection before the request has had an effect.
	DropBefore Trouble = iota + 1
	// DropAfter closes the connection after the effect, without an answer.
	DropAfter
	// Delay serves the request after a pause.
	Delay
	// Fail answers with HTTP 500 and a fault, without an effect.
	Fail
	// Hang never answers, and has no effect.
	Hang
	// Flood answers a Receive with output that never ends.
	Flood
	// TooLarge answers with HTTP 413, without an effect.
	TooLarge
	// Unauthorized answers with HTTP 401 and forgets the logon, without an effect.
	Unauthorized
	// Clear serves the request and answers in the clear, even if it was sealed.
	Clear
	// Forge serves the request and changes one byte of the answer.
	Forge
	// DropWithin serves the request and closes the connection in the middle of the answer.
	DropWithin
	// Dribble serves the request and answers in chunks of one byte.
	Dribble
	// Slow serves the request and answers in chunks with pauses between.
	Slow
	// Nonsense answers with HTTP 200 and something that is no envelope, without an effect.
	Nonsense
)

// Injection is a disturbance for one request, or for many.
type Injection struct {
	// Action is the last part of the action, such as Receive or StartService; empty means any.
	Action string
	// Skip is how many matching requests pass first.
	Skip int
	// Times is how many are disturbed after that; 0 means one, negative all.
	Times   int
	Trouble Trouble
	// Code is the code of the fault, for Fail.
	Code uint32
	// Pause is how long, for Delay and, between two chunks, for Slow.
	Pause time.Duration
}

// injections are what is still to happen.
type injections struct {
	mu  sync.Mutex
	all []*Injection
}

func (i *injections) add(in Injection) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if in.Times == 0 {
		in.Times = 1
	}
	i.all = append(i.all, &in)
}

func (i *injections) clear() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = nil
}

// next decides what happens to a request with this action. Only the first injection
// that matches counts.
func (i *injections) next(action string) (Injection, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, in := range i.all {
		if in.Times == 0 || in.Action != "" && !strings.HasSuffix(action, "/"+in.Action) {
			continue
		}
		if in.Skip > 0 {
			in.Skip--
			return Injection{}, false
		}
		if in.Times > 0 {
			in.Times--
		}
		return *in, true
	}
	return Injection{}, false
}
