package condition

import (
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// maxMessage keeps a message readable in a terminal; the API allows 32768.
const maxMessage = 2048

// Set writes one condition. Its lastTransitionTime changes only when its status
// does. The list is kept in a stable order: Ready, Reconciling, Stalled, then
// the others by name.
func Set(list *[]metav1.Condition, generation int64, conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(list, metav1.Condition{
		Type:               conditionType,
		Status:             status,
		ObservedGeneration: generation,
		Reason:             reason,
		Message:            truncate(message),
	})
	slices.SortStableFunc(*list, compare)
}

// Remove takes a condition out of the list.
func Remove(list *[]metav1.Condition, conditionType string) {
	meta.RemoveStatusCondition(list, conditionType)
}

// Get returns the condition of that type, or nil. What it points to is the list's own.
func Get(list []metav1.Condition, conditionType string) *metav1.Condition {
	return meta.FindStatusCondition(list, conditionType)
}

// Is tells whether the list has the condition with that status.
func Is(list []metav1.Condition, conditionType string, status metav1.ConditionStatus) bool {
	return meta.IsStatusConditionPresentAndEqual(list, conditionType, status)
}

// IsTrue tells whether the list has the condition with status True.
func IsTrue(list []metav1.Condition, conditionType string) bool {
	return Is(list, conditionType, metav1.ConditionTrue)
}

// Ready says that the object is as declared: Ready=True, nothing else to say.
func Ready(list *[]metav1.Condition, generation int64, reason, message string) {
	Remove(list, v1alpha1.ReconcilingCondition)
	Remove(list, v1alpha1.StalledCondition)
	Set(list, generation, v1alpha1.ReadyCondition, metav1.ConditionTrue, reason, message)
}

// Progressing says that work is under way or will be retried: Ready=Unknown and
// Reconciling=True. Argo CD would read Ready=False as degraded.
func Progressing(list *[]metav1.Condition, generation int64, reason, message string) {
	Remove(list, v1alpha1.StalledCondition)
	Set(list, generation, v1alpha1.ReadyCondition, metav1.ConditionUnknown, reason, message)
	Set(list, generation, v1alpha1.ReconcilingCondition, metav1.ConditionTrue, reason, message)
}

// Stalled says that nothing will change until a person acts: Ready=False and Stalled=True.
func Stalled(list *[]metav1.Condition, generation int64, reason, message string) {
	Remove(list, v1alpha1.ReconcilingCondition)
	Set(list, generation, v1alpha1.ReadyCondition, metav1.ConditionFalse, reason, message)
	Set(list, generation, v1alpha1.StalledCondition, metav1.ConditionTrue, reason, message)
}

// Unready says that the object does not work although it is as declared, and
// that this may pass without anybody's doing: Ready=False alone. kstatus reads
// it as in progress, Argo CD as degraded.
func Unready(list *[]metav1.Condition, generation int64, reason, message string) {
	Remove(list, v1alpha1.ReconcilingCondition)
	Remove(list, v1alpha1.StalledCondition)
	Set(list, generation, v1alpha1.ReadyCondition, metav1.ConditionFalse, reason, message)
}

// Unknown says that the state cannot be known now, and that nothing is being
// changed: Ready=Unknown alone.
func Unknown(list *[]metav1.Condition, generation int64, reason, message string) {
	Remove(list, v1alpha1.ReconcilingCondition)
	Remove(list, v1alpha1.StalledCondition)
	Set(list, generation, v1alpha1.ReadyCondition, metav1.ConditionUnknown, reason, message)
}

// compare orders the three types of the kstatus contract before the others.
func compare(a, b metav1.Condition) int {
	if d := rank(a.Type) - rank(b.Type); d != 0 {
		return d
	}
	return strings.Compare(a.Type, b.Type)
}

func rank(conditionType string) int {
	order := []string{v1alpha1.ReadyCondition, v1alpha1.ReconcilingCondition, v1alpha1.StalledCondition}
	if i := slices.Index(order, conditionType); i >= 0 {
		return i
	}
	return len(order)
}

// truncate cuts a message at a rune, so that the API server accepts it as UTF-8.
func truncate(message string) string {
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) <= maxMessage {
		return message
	}
	cut := maxMessage - len("…")
	for !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut] + "…"
}
