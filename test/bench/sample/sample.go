// Package sample sums up a few measurements of one thing: the median, the least
// and the most.
package sample

import (
	"math"
	"slices"
)

// Sample is a few measurements of one thing, in any order.
type Sample []float64

// Median is the middle one, or the mean of the two in the middle; NaN of none.
func (s Sample) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Min is the least; NaN of none.
func (s Sample) Min() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	return slices.Min(s)
}

// Max is the most; NaN of none.
func (s Sample) Max() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	return slices.Max(s)
}

// Ratio is how many times the median of s is that of other; NaN if either has none.
func (s Sample) Ratio(other Sample) float64 { return s.Median() / other.Median() }
