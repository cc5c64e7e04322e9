package externalservice

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/service"
)

const maxRows = 100 // of lists in status

// changesOf lists changes for status.execution.
func changesOf(changes []service.Change) []string {
	var all []string
	for _, c := range changes[:min(len(changes), maxRows)] {
		all = append(all, cut(shown(c).String(), 1024))
	}
	return all
}

// stepsOf lists what the steps of a job do, for status.execution.
func stepsOf(names []string) []string {
	var all []string
	for _, name := range names[:min(len(names), maxRows)] {
		all = append(all, cut(name, 512))
	}
	return all
}

// inFull lists changes with their values, for a condition.
func inFull(changes []service.Change) string {
	return strings.Join(changesOf(changes), "; ")
}

// differencesOf lists changes for status.drift.
func differencesOf(changes []service.Change) []v1alpha1.Difference {
	var all []v1alpha1.Difference
	for _, c := range changes[:min(len(changes), maxRows)] {
		c = shown(c)
		all = append(all, v1alpha1.Difference{Path: c.Path, Desired: cut(c.Desired, 1024), Observed: cut(c.Observed, 1024)})
	}
	return all
}

// shown is a change without the clock readings that a script prints: they would
// make a new change of the same one at every look.
func shown(c service.Change) service.Change {
	if c.Path == "script" {
		c.Observed = timeless(c.Observed)
	}
	return c
}

// listed names the paths of changes, in their order, for a condition.
func listed(changes []service.Change) string {
	const most = 8
	var paths []string
	for _, c := range changes[:min(len(changes), most)] {
		paths = append(paths, c.Path)
	}
	if more := len(changes) - most; more > 0 {
		paths = append(paths, fmt.Sprintf("and %d more", more))
	}
	if len(paths) == 0 {
		return "records on the host"
	}
	return strings.Join(paths, ", ")
}

// summary says what an execution does.
func summary(execution v1alpha1.Execution) string {
	if len(execution.Changes) == 0 {
		return "writing down on the host what is managed"
	}
	return strings.Join(execution.Changes, "; ")
}

// cut shortens a text at a rune.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	end := most - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
