package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

// simulation is the first argument of the process that workload idle measures.
const simulation = "simulated"

func main() {
	log.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	if len(os.Args) > 1 && os.Args[1] == simulation {
		exitOn(simulate(os.Args[2:]))
		return
	}
	// A set of its own: what this program imports adds to the common one.
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	plan := newPlan()
	plan.bindFlags(flags)
	exitOn(flags.Parse(os.Args[1:]))
	if plan.quick {
		plan.shorten(flags)
	}
	exitOn(plan.check())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, plan))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// plan is what is measured.
type plan struct {
	workloads, sides list
	hosts, runs      numbers // runs by position: those of the first number of hosts, of the second, ...
	pairs            int
	idleHosts        int
	idleObjects      int
	window           time.Duration
	size             int // MiB
	strategy         string
	program          string // the operator; built from this checkout if it is empty
	quick            bool
}

var (
	allWorkloads = list{"passes", "deadhost", "idle", "deliver"}
	allSides     = list{"isthmus", "ansible", "fabric"}
)

func newPlan() *plan {
	return &plan{
		workloads: allWorkloads, sides: allSides,
		hosts: numbers{20, 100}, runs: numbers{5, 3}, pairs: 15,
		idleHosts: 2000, idleObjects: 10000, window: 10 * time.Minute, size: 100,
		strategy: "linear", quick: os.Getenv("BENCH") == "quick",
	}
}

func (p *plan) bindFlags(flags *flag.FlagSet) {
	flags.Var(&p.workloads, "workloads", "comma-separated: passes, deadhost, idle, deliver")
	flags.Var(&p.sides, "sides", "sides of the workload passes: isthmus, ansible, fabric")
	flags.Var(&p.hosts, "hosts", "numbers of hosts of the workload passes; the largest is that of deadhost too")
	flags.Var(&p.runs, "runs", "runs of each side, for each number of hosts; the last one holds for the rest")
	flags.IntVar(&p.pairs, "pairs", p.pairs, "passes with and without a dead host")
	flags.IntVar(&p.idleHosts, "idle-hosts", p.idleHosts, "Hosts of the workload idle")
	flags.IntVar(&p.idleObjects, "idle-objects", p.idleObjects, "ExternalServices of the workload idle")
	flags.DurationVar(&p.window, "window", p.window, "how long the workload idle is watched")
	flags.IntVar(&p.size, "size", p.size, "MiB of the file of the workload deliver")
	flags.StringVar(&p.strategy, "strategy", p.strategy, "Ansible's strategy: linear (its default) or free")
	flags.StringVar(&p.program, "operator", "", "program of the operator to measure; empty: this checkout is built")
	flags.BoolVar(&p.quick, "quick", p.quick, "few hosts, runs and objects, to see that everything works (also BENCH=quick)")
}

// shorten makes a smoke test of the plan, where no flag says otherwise.
func (p *plan) shorten(flags *flag.FlagSet) {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, shorten := range map[string]func(){
		"hosts":        func() { p.hosts = numbers{5} },
		"runs":         func() { p.runs = numbers{2} },
		"pairs":        func() { p.pairs = 3 },
		"idle-hosts":   func() { p.idleHosts = 20 },
		"idle-objects": func() { p.idleObjects = 100 },
		"window":       func() { p.window = 10 * time.Second },
		"size":         func() { p.size = 10 },
	} {
		if !given[name] {
			shorten()
		}
	}
}

func (p *plan) check() error {
	for _, workload := range p.workloads {
		if !slices.Contains(allWorkloads, workload) {
			return fmt.Errorf("unknown workload %q: there are %s", workload, allWorkloads.String())
		}
	}
	for _, side := range p.sides {
		if !slices.Contains(allSides, side) {
			return fmt.Errorf("unknown side %q: there are %s", side, allSides.String())
		}
	}
	if len(p.hosts) == 0 || len(p.runs) == 0 {
		return errors.New("give at least one number for -hosts and for -runs")
	}
	return nil
}

// runsOf is how often each side passes over the i-th number of hosts.
func (p *plan) runsOf(i int) int { return p.runs[min(i, len(p.runs)-1)] }

// run measures, and leaves nothing behind.
func run(ctx context.Context, p *plan) (err error) {
	dir, err := os.MkdirTemp("", "isthmus-bench-")
	if err != nil {
		return err
	}
	j, err := janitor.New(dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if err := j.Remove(dir); err != nil {
		return err
	}
	b := &bench{plan: p, dir: dir, janitor: j, began: time.Now()}
	for _, workload := range p.workloads {
		measure := map[string]func(context.Context) error{
			"passes": b.passes, "deadhost": b.deadHost, "idle": b.idle, "deliver": b.deliver,
		}[workload]
		b.say("workload %s", workload)
		if err := measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", workload, err)
		}
	}
	b.say("done")
	return nil
}

// bench is one run of this program.
type bench struct {
	*plan
	dir     string
	janitor *janitor.Janitor
	began   time.Time
	parts   int
}

// part is a directory for a part of the run.
func (b *bench) part(name string) (string, error) {
	b.parts++
	dir := filepath.Join(b.dir, fmt.Sprintf("%d-%s", b.parts, name))
	return dir, os.Mkdir(dir, 0o700)
}

// list is a flag of words.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(text string) error {
	*l = strings.Split(text, ",")
	return nil
}

// numbers is a flag of positive numbers.
type numbers []int

// String implements flag.Value.
func (n *numbers) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*n), " ", ","), "[]")
}

// Set implements flag.Value.
func (n *numbers) Set(text string) error {
	*n = nil
	for word := range strings.SplitSeq(text, ",") {
		number, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || number < 1 {
			return fmt.Errorf("%q is not a positive number", word)
		}
		*n = append(*n, number)
	}
	return nil
}
