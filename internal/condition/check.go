package condition

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

var (
	camelCase = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	// timeOfDay and date find clock readings; a message with one would change at every pass.
	timeOfDay = regexp.MustCompile(`\b\d{1,2}:\d{2}:\d{2}\b`)
	date      = regexp.MustCompile(`\b\d{4}-\d{2}-\d{2}\b`)
)

// Check returns every way in which the list breaks the contract of this
// package, or nil. Tests call it after every pass of a reconciler.
func Check(conditions []metav1.Condition) error {
	var broken []error
	for _, c := range conditions {
		broken = append(broken, checkOne(c)...)
	}
	return errors.Join(append(broken, checkSummary(conditions)...)...)
}

func checkOne(c metav1.Condition) []error {
	var broken []error
	if !camelCase.MatchString(c.Reason) {
		broken = append(broken, fmt.Errorf("condition %s: reason %q is not CamelCase", c.Type, c.Reason))
	}
	if timeOfDay.MatchString(c.Message) || date.MatchString(c.Message) {
		broken = append(broken, fmt.Errorf("condition %s: message carries a time: %q", c.Type, c.Message))
	}
	if c.LastTransitionTime.IsZero() {
		broken = append(broken, fmt.Errorf("condition %s: no lastTransitionTime", c.Type))
	}
	return broken
}

func checkSummary(conditions []metav1.Condition) []error {
	var broken []error
	ready := Get(conditions, v1alpha1.ReadyCondition)
	reconciling := Get(conditions, v1alpha1.ReconcilingCondition)
	stalled := Get(conditions, v1alpha1.StalledCondition)
	if ready == nil {
		return []error{errors.New("condition Ready is missing")}
	}
	for _, c := range []*metav1.Condition{reconciling, stalled} {
		if c != nil && c.Status != metav1.ConditionTrue {
			broken = append(broken, fmt.Errorf("condition %s is present and %s; it may only be present while True", c.Type, c.Status))
		}
	}
	if reconciling != nil && stalled != nil {
		broken = append(broken, errors.New("conditions Reconciling and Stalled are both present"))
	}
	if reconciling != nil && ready.Status != metav1.ConditionUnknown {
		broken = append(broken, fmt.Errorf("condition Ready is %s while Reconciling", ready.Status))
	}
	unready := ready.Status == metav1.ConditionFalse && !slices.Contains(passing, ready.Reason)
	if (stalled != nil) != unready {
		broken = append(broken, fmt.Errorf("condition Ready is %s (%s) and Stalled present is %t; False and Stalled go together, but for what passes by itself", ready.Status, ready.Reason, stalled != nil))
	}
	return broken
}

// passing are the reasons for which an object is not ready and may become so without a change of its spec.
var passing = []string{v1alpha1.ReasonNotHealthy, v1alpha1.ReasonUnreachable, v1alpha1.ReasonFailed}
