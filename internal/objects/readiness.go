package objects

import (
	"fmt"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Readiness is what an object says about itself.
type Readiness string

// The answers.
const (
	// Ready: as declared, by the rules of kstatus.
	Ready Readiness = "Ready"
	// InProgress: on the way.
	InProgress Readiness = "InProgress"
	// Failed: it needs a person.
	Failed Readiness = "Failed"
	// Unknown: it cannot be known, such as behind a host that does not answer.
	Unknown Readiness = "Unknown"
	// Terminating: it is being deleted.
	Terminating Readiness = "Terminating"
)

// ReadinessOf reads an object's status. The message is the object's own.
func ReadinessOf(object *unstructured.Unstructured) (Readiness, string) {
	if message, unknown := saysUnknown(object); unknown {
		return Unknown, message
	}
	if !HasSeenSpec(object) && object.GetDeletionTimestamp() == nil {
		return InProgress, "its controller has not looked at it yet"
	}
	result, err := status.Compute(object)
	if err != nil {
		return InProgress, fmt.Sprintf("its status cannot be read: %s", err)
	}
	switch result.Status {
	case status.CurrentStatus:
		return Ready, ""
	case status.FailedStatus:
		return Failed, result.Message
	case status.TerminatingStatus:
		return Terminating, "it is being deleted"
	default:
		return InProgress, result.Message
	}
}

// HasSeenSpec tells whether the object's controller has seen its present spec.
// Objects without status.observedGeneration always have.
func HasSeenSpec(object *unstructured.Unstructured) bool {
	observed, found, err := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	return err != nil || !found || observed == object.GetGeneration()
}

// saysUnknown recognises our own kinds' word for it: Ready=Unknown while
// nothing is being worked on. kstatus would call it in progress, and an
// application would be said to progress while a host is dead.
func saysUnknown(object *unstructured.Unstructured) (string, bool) {
	if object.GroupVersionKind().Group != v1alpha1.GroupVersion.Group || object.GetDeletionTimestamp() != nil || !HasSeenSpec(object) {
		return "", false
	}
	ready := findCondition(object, v1alpha1.ReadyCondition)
	if ready["status"] != string(metav1.ConditionUnknown) {
		return "", false
	}
	if ready["reason"] != v1alpha1.ReasonHostUnreachable && findCondition(object, v1alpha1.ReconcilingCondition) != nil {
		return "", false
	}
	message, _ := ready["message"].(string)
	if message == "" {
		message = fmt.Sprint(ready["reason"])
	}
	return message, true
}

func findCondition(object *unstructured.Unstructured, conditionType string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if condition, ok := c.(map[string]any); ok && condition["type"] == conditionType {
			return condition
		}
	}
	return nil
}
