package fleet_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// counts reads all counters of a name, by their label.
func counts(t *testing.T, name string) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			label := ""
			for _, pair := range metric.GetLabel() {
				label = pair.GetValue()
			}
			found[label] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return found
}

func TestWhatIsCounted(t *testing.T) {
	cancels, stages, bytes := counts(t, "isthmus_cancellations_total"), counts(t, "isthmus_stagings_total"), counts(t, "isthmus_staged_bytes_total")
	connected := counts(t, "isthmus_hosts")["Connected"]
	h := jobRuns(t)
	assert.Equal(t, connected+1, counts(t, "isthmus_hosts")["Connected"])
	h.Cancel(hostKey, orders, "a-1")
	h.eventually("cancelled", func() bool { return h.receipt("a-1") == machine.JobCancelled })
	h.Cancel(hostKey, orders, "unknown")
	h.Submit(hostKey, orders, delivery("b-1", contentOf("12345")))
	h.eventually("handed over", h.handedOver)
	h.host.FailStage(&transport.LostError{Doing: "stage content", Err: errors.New("reset")})
	h.Submit(hostKey, orders, delivery("b-2", contentOf("67")))
	h.eventually("handed back", func() bool { return h.View(hostKey, orders).JobErrors["b-2"] != "" })
	h.stepping(time.Second, "back", h.state(fleet.Connected))
	for outcome, before := range map[string]float64{"cancelled": cancels["cancelled"], "absent": cancels["absent"]} {
		h.eventually(outcome, func() bool { return counts(t, "isthmus_cancellations_total")[outcome] == before+1 })
	}
	assert.Equal(t, stages["ok"]+1, counts(t, "isthmus_stagings_total")["ok"])
	assert.Equal(t, stages["lost"]+1, counts(t, "isthmus_stagings_total")["lost"])
	assert.Equal(t, bytes[""]+5, counts(t, "isthmus_staged_bytes_total")[""])
}
