package externalservice

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// health of the service, by the service manager and the readiness probe.
type health struct {
	status  metav1.ConditionStatus
	reason  string
	message string
	// traffic says what that means for the endpoint.
	traffic traffic
}

// traffic that an endpoint should get.
type traffic string

const (
	admit   traffic = "Admit"
	refuse  traffic = "Refuse"
	asSoFar traffic = "AsSoFar" // nothing is known: neither taken in nor taken out
)

// probes that tell health; none while the service should not run.
func (p *pass) probes() []fleet.Probe {
	probe, ok := p.probe()
	if !ok {
		return nil
	}
	return []fleet.Probe{probe}
}

func (p *pass) probe() (fleet.Probe, bool) {
	spec := p.object.Spec.Readiness
	if spec == nil || p.desired.State == v1alpha1.StateStopped {
		return fleet.Probe{}, false
	}
	probe := fleet.Probe{Scheme: "tcp", Failures: int(spec.FailureThreshold), Successes: int(spec.SuccessThreshold)}
	if spec.Interval != nil {
		probe.Interval = spec.Interval.Duration
	}
	if spec.Timeout != nil {
		probe.Timeout = spec.Timeout.Duration
	}
	if expose := p.object.Spec.Expose; expose != nil {
		probe.Address = expose.Address
	}
	switch {
	case spec.TCP != nil:
		probe.Port = int(spec.TCP.Port)
	case spec.HTTP != nil:
		probe.Scheme, probe.Port = strings.ToLower(spec.HTTP.Scheme), int(spec.HTTP.Port)
		probe.Path, probe.ExpectStatus = spec.HTTP.Path, int(spec.HTTP.ExpectStatus)
		if probe.Scheme == "" {
			probe.Scheme = "http"
		}
	}
	return probe, true
}

// assess joins the word of the service manager and that of the probe.
func (p *pass) assess() health {
	probe, probed := p.probe()
	state, message := service.Health(p.desired, p.view.Answers)
	if p.desired.Script != nil && probed {
		state = service.Healthy // observe speaks of the state; that the component works is the probe's to say
	}
	if p.desired.State == v1alpha1.StateStopped {
		return health{metav1.ConditionUnknown, v1alpha1.ReasonStopped, "spec.state is Stopped", refuse}
	}
	switch state {
	case service.HealthUnknown:
		return health{metav1.ConditionUnknown, v1alpha1.ReasonObservationFailed, message, asSoFar}
	case service.HealthPending:
		return health{metav1.ConditionUnknown, v1alpha1.ReasonWaiting, message, refuse}
	case service.Unhealthy:
		return health{metav1.ConditionFalse, v1alpha1.ReasonNotHealthy, message, refuse}
	}
	if !probed {
		return health{metav1.ConditionTrue, v1alpha1.ReasonHealthy, p.witness(), admit}
	}
	result := p.view.Probes[probe]
	switch {
	case !result.Known:
		return health{metav1.ConditionUnknown, v1alpha1.ReasonWaiting, "the first results of the readiness probe are awaited", asSoFar}
	case !result.Healthy:
		return health{metav1.ConditionFalse, v1alpha1.ReasonNotHealthy, fmt.Sprintf("the readiness probe fails: %s", result.Message), refuse}
	default:
		return health{metav1.ConditionTrue, v1alpha1.ReasonHealthy, "the readiness probe succeeds", admit}
	}
}

// expectsHealth: a service that is neither held nor probed may be as it likes.
func (p *pass) expectsHealth() bool {
	_, probed := p.probe()
	return probed || p.desired.State == v1alpha1.StateRunning
}

// witness is who says that all is well when nothing is probed.
func (p *pass) witness() string {
	if p.desired.Script != nil {
		return "spec.script.observe says that it is as it should be"
	}
	if p.desired.Systemd == nil && p.desired.Windows == nil {
		return "there are only files to keep, and no readiness probe"
	}
	return "the service manager says that it runs"
}
