package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-dev/isthmus/controllers"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// simulate is the process that workload idle measures: the operator's own
// controllers, or its fleet alone, with hosts that are a few maps in memory.
func simulate(arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet(simulation, flag.ContinueOnError)
	hosts := flags.Int("fleet-hosts", 0, "hosts of a fleet without controllers; 0: run the operator")
	objects := flags.Int("fleet-objects", 0, "objects of that fleet")
	window := flags.Duration("fleet-window", time.Minute, "how long that fleet is watched")
	options := controllers.Options{}
	options.BindFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	network := &memoryNetwork{hosts: map[string]*memoryHost{}}
	if *hosts > 0 {
		weighed, err := weighFleet(ctx, network, *hosts, *objects, *window)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(weighed)
	}
	return simulateOperator(ctx, &options, network)
}

func simulateOperator(ctx context.Context, options *controllers.Options, network *memoryNetwork) error {
	options.Connect = network.connect
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	manager, err := controllers.NewManager(config, options)
	if err != nil {
		return err
	}
	if err := controllers.Setup(ctx, manager, *options); err != nil {
		return err
	}
	go tidyWhenAsked(ctx)
	return manager.Start(ctx)
}

// tidyWhenAsked collects garbage at SIGUSR1: what is weighed is what is needed.
func tidyWhenAsked(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for {
		select {
		case <-asked:
			heap()
		case <-ctx.Done():
			return
		}
	}
}

// weighed is what a fleet without controllers costs.
type weighed struct {
	BytesPerObject, Cores float64
	Goroutines            int
}

// weighFleet watches what ExternalServices with one file each would, at an interval of a minute.
func weighFleet(ctx context.Context, network *memoryNetwork, hosts, objects int, window time.Duration) (weighed, error) {
	const kind = "ExternalService"
	links := fleet.New(fleet.Options{Connect: network.connect, Kinds: []string{kind}})
	running, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { _ = links.Start(running) }) // it ends with its context, and without an error
	defer ended.Wait()
	defer stop()
	empty := heap()
	key := func(i int) fleet.HostKey {
		return fleet.HostKey{Namespace: "bench", Name: fmt.Sprint("host-", i%hosts)}
	}
	object := func(i int) fleet.Object {
		return fleet.Object{Kind: kind, Key: fleet.HostKey{Namespace: "bench", Name: fmt.Sprint("service-", i)}}
	}
	for i := range objects {
		path := fmt.Sprintf("/etc/service-%d.conf", i)
		links.Watch(key(i), object(i), fleet.Watch{Interval: time.Minute, Checks: []machine.Check{
			machine.File{Path: path}, machine.Mark{Subject: machine.Subject("file/" + path)},
		}})
	}
	for i := range hosts {
		endpoint := fleet.Endpoint{}
		endpoint.Spec.Address = fmt.Sprintf("host-%d.invalid", i)
		endpoint.Version = endpoint.Digest()
		links.Configure(key(i), endpoint)
	}
	for i := 0; i < objects; {
		if links.View(key(i), object(i)).Complete {
			i++
			continue
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return weighed{}, err
		}
	}
	full, before := heap(), usage.Self()
	if err := pause(ctx, window); err != nil {
		return weighed{}, err
	}
	return weighed{
		BytesPerObject: float64(full-empty) / float64(objects),
		Cores:          (usage.Self() - before).Seconds() / window.Seconds(),
		Goroutines:     runtime.NumGoroutine(),
	}, nil
}

// heap that is in use after everything that nobody needs is gone.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// memoryNetwork finds hosts by their address, and makes them as they are asked for.
type memoryNetwork struct {
	mu    sync.Mutex
	hosts map[string]*memoryHost
}

func (n *memoryNetwork) connect(_ context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	host := n.hosts[endpoint.Spec.Address]
	if host == nil {
		host = &memoryHost{
			files: map[string]machine.FileState{}, marks: map[machine.Subject]machine.MarkState{}, jobs: map[string]machine.JobState{},
		}
		n.hosts[endpoint.Spec.Address] = host
	}
	return host, nil
}

// memoryHost implements machine.Machine for files: it keeps their digests.
type memoryHost struct {
	mu    sync.Mutex
	files map[string]machine.FileState
	marks map[machine.Subject]machine.MarkState
	jobs  map[string]machine.JobState
}

// bootID never changes: these hosts are not rebooted.
const bootID = "1"

func (h *memoryHost) Facts(context.Context) (machine.Facts, error) {
	return machine.Facts{Hostname: "simulated", BootID: bootID}, nil
}

func (h *memoryHost) Observe(_ context.Context, checks []machine.Check) (machine.Observation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	answers := make(map[machine.Check]machine.Answer, len(checks))
	for _, check := range checks {
		answers[check] = h.answer(check)
	}
	return machine.Observation{BootID: bootID, Answers: answers}, nil
}

func (h *memoryHost) answer(check machine.Check) machine.Answer {
	switch check := check.(type) {
	case machine.File:
		if file, ok := h.files[check.Path]; ok {
			return file
		}
		return machine.FileState{Kind: machine.FileAbsent}
	case machine.Mark:
		return h.marks[check.Subject]
	case machine.JobReceipt:
		if job, ok := h.jobs[check.ID]; ok {
			return job
		}
		return machine.JobState{Phase: machine.JobAbsent}
	}
	return machine.Problem{Reason: "NotSupported", Message: fmt.Sprintf("a simulated host has no answer to %T", check)}
}

func (h *memoryHost) Start(_ context.Context, job machine.Job) (machine.JobState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if done, ok := h.jobs[job.ID]; ok {
		return done, nil
	}
	now := time.Now().UTC().Format(time.RFC3339)
	state := machine.JobState{Phase: machine.JobSucceeded, Epoch: job.Epoch, BootID: bootID, Started: now, Finished: now}
	for i, step := range job.Steps {
		switch step := step.(type) {
		case machine.Claim:
			h.marks[step.Subject] = machine.MarkState{Exists: true, Owner: step.Owner, Adopted: step.Adopted}
		case machine.PutFile:
			h.files[step.Path] = machine.FileState{
				Kind: machine.FileRegular, SHA256: step.SHA256, Size: int64(len(step.Content)), Mode: 0o644, Owner: "root", Group: "root",
			}
		default:
			state.Phase, state.ExitCode, state.Step = machine.JobFailed, 1, i
			state.Message = fmt.Sprintf("a simulated host cannot carry out %T", step)
		}
	}
	h.jobs[job.ID] = state
	return state, nil
}

func (h *memoryHost) Forget(_ context.Context, ids []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		delete(h.jobs, id)
	}
	return nil
}

func (h *memoryHost) Cancel(context.Context, string, int64) (machine.JobState, error) {
	return machine.JobState{Phase: machine.JobAbsent}, nil
}

func (h *memoryHost) Stage(context.Context, machine.Blob) error { return errors.ErrUnsupported }

func (h *memoryHost) Close() error { return nil }
