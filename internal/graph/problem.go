package graph

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/expression"
)

// Problem is one thing that is wrong with an application.
type Problem struct {
	// Reason is one of the reasons of GraphAccepted.
	Reason string
	// Component that has the problem; empty for the application's own fields.
	Component string
	// Field within the component, as written there: manifest.spec.replicas.
	Field string
	// Column within the value of the field, from 1; 0 if the whole value is meant.
	Column int
	// Message says what is wrong, with the line and column if there is one.
	Message string
}

// String names the place and what is wrong.
func (p Problem) String() string {
	var where []string
	if p.Component != "" {
		where = append(where, fmt.Sprintf("component %q", p.Component))
	}
	if p.Field != "" {
		where = append(where, p.Field)
	}
	if len(where) == 0 {
		return p.Message
	}
	return strings.Join(where, ", ") + ": " + p.Message
}

// maxProblems is how many problems a message spells out.
const maxProblems = 8

// Rejection is an application that cannot be carried out as written.
type Rejection struct {
	// Problems in the order of components and fields; at least one.
	Problems []Problem
}

// Error lists the problems.
func (r *Rejection) Error() string {
	var lines []string
	for i, p := range r.Problems {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("and %d more", len(r.Problems)-i))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "; ")
}

// Reason is the reason of the first problem.
func (r *Rejection) Reason() string { return r.Problems[0].Reason }

// problems collects what is wrong.
type problems struct{ all []Problem }

func (p *problems) add(reason, component, field, format string, args ...any) {
	p.all = append(p.all, Problem{Reason: reason, Component: component, Field: field, Message: fmt.Sprintf(format, args...)})
}

// addExpression adds what is wrong with an expression, with its place.
func (p *problems) addExpression(reason, component, field string, err error) {
	problem := Problem{Reason: reason, Component: component, Field: field, Message: err.Error()}
	var at *expression.Error
	if errors.As(err, &at) {
		problem.Column = at.Column
	}
	p.all = append(p.all, problem)
}

// rejection is nil if nothing is wrong.
func (p *problems) rejection() error {
	if len(p.all) == 0 {
		return nil
	}
	slices.SortStableFunc(p.all, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Component, b.Component), strings.Compare(a.Field, b.Field), cmp.Compare(a.Column, b.Column))
	})
	return &Rejection{Problems: slices.Compact(p.all)}
}

// didYouMean is a suggestion to append to a message, or nothing.
func didYouMean(name string, known []string) string {
	best, distance := "", max(1, len(name)/3)+1
	slices.Sort(known)
	for _, candidate := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance counts insertions, deletions, replacements and swaps of
// neighbours (optimal string alignment).
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
