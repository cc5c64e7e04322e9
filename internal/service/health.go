package service

import (
	"fmt"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Observe says what the service manager says, or nil if there is no service or
// nothing is known about it.
func Observe(desired *Desired, answers map[machine.Check]machine.Answer) *v1alpha1.ObservedService {
	if desired.Script != nil {
		return desired.Script.observed(answers)
	}
	now, ok := desired.now(answers)
	if !ok {
		return nil
	}
	return &v1alpha1.ObservedService{
		State:     now.state,
		PID:       int64(now.pid),
		StartMode: now.startMode,
		Since:     now.since,
	}
}

func (s *Script) observed(answers map[machine.Check]machine.Answer) *v1alpha1.ObservedService {
	seen := s.verdict(answers)
	switch {
	case seen.unknown != "":
		return nil
	case seen.differs:
		return &v1alpha1.ObservedService{State: Differs, Message: seen.line}
	default:
		return &v1alpha1.ObservedService{State: InSync, Message: seen.line}
	}
}

func (d *Desired) now(answers map[machine.Check]machine.Answer) (current, bool) {
	driver := d.driver()
	if driver == nil {
		return current{}, false
	}
	return driver.current(&planner{desired: d, seen: Observation{Answers: answers}})
}

// HealthState is what is known of the health of a service.
type HealthState string

// The states of health.
const (
	Healthy       HealthState = "Healthy"
	Unhealthy     HealthState = "Unhealthy"
	HealthPending HealthState = "Pending" // it starts or stops just now
	HealthUnknown HealthState = "Unknown"
)

// Health is the word of the service manager, or of a script's observe. A set of files without a service is healthy.
func Health(desired *Desired, answers map[machine.Check]machine.Answer) (HealthState, string) {
	if desired.Script != nil {
		return desired.Script.health(answers)
	}
	if desired.driver() == nil {
		return Healthy, ""
	}
	now, ok := desired.now(answers)
	name := desired.driver().service().Name
	switch {
	case !ok:
		return HealthUnknown, "the state of " + name + " is not known"
	case now.state == Running:
		return Healthy, ""
	case now.pending() && now.failure == "":
		return HealthPending, fmt.Sprintf("%s is %s", name, now.state)
	case now.failure != "":
		return Unhealthy, fmt.Sprintf("%s is %s: the service manager says %s", name, now.state, now.failure)
	default:
		return Unhealthy, fmt.Sprintf("%s is %s", name, now.state)
	}
}

func (s *Script) health(answers map[machine.Check]machine.Answer) (HealthState, string) {
	switch seen := s.verdict(answers); {
	case seen.unknown != "":
		return HealthUnknown, seen.unknown
	case seen.differs:
		return Unhealthy, "spec.script.observe says that it differs" + after(seen.line)
	default:
		return Healthy, ""
	}
}
