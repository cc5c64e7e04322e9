package posix

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// unitName is systemd's own alphabet, without the characters of a pattern.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]{1,255}$`)

func validUnit(name string) error {
	if !unitName.MatchString(name) {
		return errors.New("this is not the name of a systemd unit")
	}
	if strings.Contains(name, "@.") {
		return errors.New("this is a template: name an instance of it")
	}
	return nil
}

// answerUnits reads what systemctl show printed: blocks of properties, in the
// order of the names, with an empty line between them.
func answerUnits(text string, q *questions) {
	blocks := propertyBlocks(text)
	whole := len(blocks) == len(q.units)
	for i, name := range q.units {
		if whole {
			q.refused[machine.Unit{Name: name}] = unitState(blocks[i])
		} else {
			q.refused[machine.Unit{Name: name}] = systemctlProblem(text)
		}
	}
}

func propertyBlocks(text string) []map[string]string {
	var blocks []map[string]string
	for block := range strings.SplitSeq(text, "\n\n") {
		properties := map[string]string{}
		for line := range strings.Lines(block) {
			if key, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "="); found {
				properties[key] = value
			}
		}
		if properties["LoadState"] != "" {
			blocks = append(blocks, properties)
		}
	}
	return blocks
}

func unitState(p map[string]string) machine.UnitState {
	pid, _ := strconv.Atoi(p["MainPID"])
	state := machine.UnitState{
		Load:       p["LoadState"],
		Active:     p["ActiveState"],
		Sub:        p["SubState"],
		Enabled:    p["UnitFileState"],
		Result:     p["Result"],
		Fragment:   p["FragmentPath"],
		NeedReload: p["NeedDaemonReload"] == "yes",
		MainPID:    pid,
		Instance:   strings.Trim(p["InvocationID"], "0"),
	}
	if state.Instance != "" {
		state.Instance = p["InvocationID"]
	}
	if state.Active == "active" || state.Active == "reloading" {
		state.Since = systemdTime(p["ActiveEnterTimestamp"])
	}
	return state
}

// systemdTime reads a time as systemd prints it with TZ=UTC.
func systemdTime(text string) string {
	at, err := time.Parse("Mon 2006-01-02 15:04:05 MST", text)
	if err != nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// systemctlProblem says why systemctl did not answer.
func systemctlProblem(text string) machine.Problem {
	switch {
	case strings.Contains(text, "not been booted with systemd"), strings.Contains(text, "not found"):
		return machine.Problem{Reason: "NotSupported", Message: "the host does not run systemd"}
	case strings.Contains(text, "Access denied"), strings.Contains(text, "Permission denied"):
		return denied
	default:
		return failed("systemctl show: " + excerpt(lastLine([]byte(text))))
	}
}
