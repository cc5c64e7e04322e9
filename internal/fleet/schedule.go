package fleet

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// schedule says when links have something to do: one heap, one timer and one
// goroutine for any number of links.
type schedule struct {
	clock clock.WithTicker
	wake  chan struct{} // capacity 1: the earliest entry changed

	mu      sync.Mutex
	entries appointments
	places  map[*link]*appointment
}

type appointment struct {
	link  *link
	at    time.Time
	index int
}

func newSchedule(c clock.WithTicker) *schedule {
	return &schedule{clock: c, wake: make(chan struct{}, 1), places: map[*link]*appointment{}}
}

// set makes the link due at a time; the zero time takes it off the schedule.
func (s *schedule) set(l *link, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := s.places[l]
	switch {
	case at.IsZero() && place == nil:
		return
	case at.IsZero():
		heap.Remove(&s.entries, place.index)
		delete(s.places, l)
		return
	case place == nil:
		place = &appointment{link: l, at: at}
		s.places[l] = place
		heap.Push(&s.entries, place)
	default:
		place.at = at
		heap.Fix(&s.entries, place.index)
	}
	if place.index == 0 {
		s.nudge()
	}
}

func (s *schedule) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// due takes the links off the schedule whose time has come, and says when the next one's comes.
func (s *schedule) due(now time.Time) (links []*link, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.entries) > 0 {
		first := s.entries[0]
		if first.at.After(now) {
			return links, first.at
		}
		heap.Pop(&s.entries)
		delete(s.places, first.link)
		links = append(links, first.link)
	}
	return links, time.Time{}
}

// run calls visit for each link whose time has come, until ctx ends.
func (s *schedule) run(ctx context.Context, visit func(*link)) {
	for ctx.Err() == nil {
		links, next := s.due(s.clock.Now())
		for _, l := range links {
			visit(l)
		}
		if len(links) == 0 {
			s.wait(ctx, next)
		}
	}
}

func (s *schedule) wait(ctx context.Context, next time.Time) {
	var ring <-chan time.Time
	if !next.IsZero() {
		timer := s.clock.NewTimer(next.Sub(s.clock.Now()))
		defer timer.Stop()
		// A clock that was stepped between the two lines above would ring late.
		if !s.clock.Now().Before(next) {
			return
		}
		ring = timer.C()
	}
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-ring:
	}
}

// appointments implements heap.Interface, the earliest first.
type appointments []*appointment

func (a appointments) Len() int           { return len(a) }
func (a appointments) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a appointments) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (a *appointments) Push(x any) {
	entry := x.(*appointment)
	entry.index = len(*a)
	*a = append(*a, entry)
}

func (a *appointments) Pop() any {
	last := len(*a) - 1
	entry := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return entry
}
