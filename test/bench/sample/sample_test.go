package sample

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSample(t *testing.T) {
	for name, c := range map[string]struct {
		sample           Sample
		median, min, max float64
	}{
		"one":                   {Sample{3}, 3, 3, 3},
		"odd, out of order":     {Sample{9, 1, 4}, 4, 1, 9},
		"even, out of order":    {Sample{4, 1, 10, 2}, 3, 1, 10},
		"an outlier changes it": {Sample{1, 1, 1, 1, 100}, 1, 1, 100},
	} {
		t.Run(name, func(t *testing.T) {
			before := append(Sample(nil), c.sample...)
			assert.InDelta(t, c.median, c.sample.Median(), 0)
			assert.InDelta(t, c.min, c.sample.Min(), 0)
			assert.InDelta(t, c.max, c.sample.Max(), 0)
			assert.Equal(t, before, c.sample, "the order of the runs is kept")
		})
	}
}

func TestRatio(t *testing.T) {
	assert.InDelta(t, 5, Sample{10, 11, 9}.Ratio(Sample{2, 1, 3}), 0)
	assert.True(t, math.IsNaN(Sample{1}.Ratio(nil)))
}

func TestNothingWasMeasured(t *testing.T) {
	for name, value := range map[string]float64{
		"median": Sample{}.Median(), "min": Sample{}.Min(), "max": Sample{}.Max(),
	} {
		assert.True(t, math.IsNaN(value), name)
	}
}
