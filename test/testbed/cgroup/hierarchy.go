package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// hierarchy is one mounted tree of control groups.
type hierarchy struct {
	mount       string
	controllers []string // legacy only: "memory", or "name=systemd"
	unified     bool
	named       bool // legacy without a controller: it only groups processes
}

// is says whether the second field of a line of /proc/PID/cgroup means h.
func (h hierarchy) is(field string) bool {
	if h.unified || field == "" {
		return h.unified && field == ""
	}
	return slices.Contains(h.controllers, strings.Split(field, ",")[0])
}

func hierarchies() ([]hierarchy, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	all := parse(string(info))
	if len(all) == 0 {
		return nil, errors.New("no control groups are mounted")
	}
	return all, nil
}

// parse reads /proc/PID/mountinfo (proc(5)): field 5 is the mount point, and after
// a lone dash come the type, the source and the options of the file system.
func parse(mountinfo string) []hierarchy {
	var all []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, found := strings.Cut(strings.TrimSpace(line), " - ")
		place, system := strings.Fields(before), strings.Fields(after)
		if !found || len(place) < 5 || len(system) < 3 {
			continue
		}
		h := hierarchy{mount: place[4]}
		switch system[0] {
		case "cgroup2":
			h.unified = true
		case "cgroup":
			h.controllers = strings.Split(system[2], ",")
			h.named = slices.ContainsFunc(h.controllers, func(c string) bool { return strings.HasPrefix(c, "name=") })
		default:
			continue
		}
		// The same hierarchy may be mounted twice; one place is enough.
		if !slices.ContainsFunc(all, func(o hierarchy) bool {
			return o.unified == h.unified && slices.Equal(o.controllers, h.controllers)
		}) {
			all = append(all, h)
		}
	}
	return all
}
