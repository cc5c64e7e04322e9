package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/bench/sample"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// say tells what is being done.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%4.0fs] "+format+"\n", append([]any{time.Since(b.began).Seconds()}, args...)...)
}

// Write implements io.Writer for the progress of installations and builds.
func (b *bench) Write(line []byte) (int, error) {
	b.say("%s", strings.TrimRight(string(line), "\n"))
	return len(line), nil
}

// field of a result line.
type field struct {
	name  string
	value any
}

// result prints one line of figures, with the load of the machine at that moment.
func result(name string, fields ...field) {
	var line strings.Builder
	line.WriteString("RESULT " + name)
	for _, f := range append(fields, field{"load", usage.Load()}) {
		switch value := f.value.(type) {
		case float64:
			fmt.Fprintf(&line, " %s=%s", f.name, short(value))
		default:
			fmt.Fprintf(&line, " %s=%v", f.name, value)
		}
	}
	fmt.Println(line.String())
}

// short has three significant digits, and no exponent.
func short(value float64) string {
	if value == 0 || math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Sprint(value)
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(value)))))
	return fmt.Sprintf("%.*f", min(digits, 6), value)
}

// series are the runs of one pass of one side.
type series struct {
	wall, cpu, rss, controlPlane sample.Sample // seconds, seconds, MiB, seconds
}

func (s *series) add(wall time.Duration, used usage.Usage) {
	s.wall = append(s.wall, wall.Seconds())
	s.cpu = append(s.cpu, used.CPU.Seconds())
	s.rss = append(s.rss, float64(used.PeakRSS)/(1<<20))
}

// fields of a result line; what was not measured is left out.
func (s *series) fields() []field {
	fields := []field{
		{"runs", len(s.wall)},
		{"wall_s", s.wall.Median()}, {"wall_min_s", s.wall.Min()}, {"wall_max_s", s.wall.Max()},
		{"cpu_s", s.cpu.Median()}, {"cpu_min_s", s.cpu.Min()}, {"cpu_max_s", s.cpu.Max()},
	}
	if s.rss.Max() > 0 {
		fields = append(fields, field{"rss_max_mib", s.rss.Max()})
	}
	if len(s.controlPlane) > 0 {
		fields = append(fields, field{"control_plane_cpu_s", s.controlPlane.Median()})
	}
	return fields
}
