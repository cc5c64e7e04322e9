package condition

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Every summary may follow every other; the contract must hold after each.
func TestSummariesKeepTheContractInAnyOrder(t *testing.T) {
	summaries := []func(*[]metav1.Condition, int64, string, string){Ready, Progressing, Stalled, Unknown}
	want := []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionUnknown, metav1.ConditionFalse, metav1.ConditionUnknown}
	for i, first := range summaries {
		for j, second := range summaries {
			var list []metav1.Condition
			Set(&list, 1, "Drifted", metav1.ConditionFalse, "InSync", "")
			first(&list, 1, "One", "first")
			require.NoError(t, Check(list), "after %d", i)
			second(&list, 2, "Two", "second")
			require.NoError(t, Check(list), "after %d then %d", i, j)
			require.True(t, Is(list, v1alpha1.ReadyCondition, want[j]))
			require.Equal(t, v1alpha1.ReadyCondition, list[0].Type)
			require.Equal(t, "Drifted", list[len(list)-1].Type)
			require.EqualValues(t, 2, Get(list, v1alpha1.ReadyCondition).ObservedGeneration)
		}
	}
}

func TestSetKeepsTheTransitionTimeWhileTheStatusStays(t *testing.T) {
	long := metav1.NewTime(time.Unix(1000, 0))
	list := []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Old", LastTransitionTime: long}}
	Set(&list, 3, "Ready", metav1.ConditionTrue, "New", "other words")
	require.Equal(t, long, list[0].LastTransitionTime)
	require.Equal(t, "New", list[0].Reason)
	Set(&list, 3, "Ready", metav1.ConditionFalse, "New", "other words")
	require.NotEqual(t, long, list[0].LastTransitionTime)
}

func TestMessagesAreCutAtARune(t *testing.T) {
	var list []metav1.Condition
	Set(&list, 1, "Ready", metav1.ConditionTrue, "Long", strings.Repeat("ü", 5000)+"\xff")
	message := list[0].Message
	require.LessOrEqual(t, len(message), maxMessage)
	require.True(t, strings.HasSuffix(message, "ü…"))
}

func TestCheckFindsWhatIsBroken(t *testing.T) {
	now := metav1.Now()
	condition := func(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: now}
	}
	ready := condition("Ready", metav1.ConditionUnknown, "Progressing", "")
	cases := map[string]struct {
		list []metav1.Condition
		want string
	}{
		"no Ready":            {nil, "Ready is missing"},
		"reason":              {[]metav1.Condition{condition("Ready", metav1.ConditionTrue, "not camel", "")}, "not CamelCase"},
		"time":                {[]metav1.Condition{condition("Ready", metav1.ConditionTrue, "Succeeded", "at 10:11:12")}, "carries a time"},
		"date":                {[]metav1.Condition{condition("Ready", metav1.ConditionTrue, "Succeeded", "since 2020-01-02")}, "carries a time"},
		"Reconciling present": {[]metav1.Condition{ready, condition("Reconciling", metav1.ConditionFalse, "Progressing", "")}, "only be present while True"},
		"both": {[]metav1.Condition{ready, condition("Reconciling", metav1.ConditionTrue, "Progressing", ""),
			condition("Stalled", metav1.ConditionTrue, "Invalid", "")}, "both present"},
		"False alone": {[]metav1.Condition{condition("Ready", metav1.ConditionFalse, "Invalid", "")}, "go together"},
		"Ready while Reconciling": {[]metav1.Condition{condition("Ready", metav1.ConditionTrue, "Succeeded", ""),
			condition("Reconciling", metav1.ConditionTrue, "Progressing", "")}, "while Reconciling"},
		"no transition time": {[]metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Succeeded"}}, "lastTransitionTime"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, Check(c.list), c.want) })
	}
}
