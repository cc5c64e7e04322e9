package fleettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// Loss says when the reply to Start is lost.
type Loss string

// The moments at which a reply can be lost.
const (
	BeforeEffect Loss = "BeforeEffect" // the request never arrives
	AfterEffect  Loss = "AfterEffect"  // the job is carried out, and its answer is lost
	DuringEffect Loss = "DuringEffect" // the job has begun and goes on; the answer is lost
)

// Host is the model of a machine. Its zero switches mean a machine that works.
type Host struct {
	// Now is the host's clock.
	Now func() time.Time

	mu       sync.Mutex
	os       v1alpha1.OperatingSystem
	facts    machine.Facts
	files    map[string]*File
	units    map[string]*unit
	services map[string]*windowsService // by lower-case name
	marks    map[machine.Subject]machine.MarkState
	scripts  map[string]Script // by text
	staged   map[string][]byte // by digest
	taken    []string          // digests of staged content that the job which runs has put in place
	web      map[string]string // by URL: what the host can download
	jobs     map[string]*job
	epoch    int64
	pids     int
	boots    int
	journal  []string

	// access
	key      string
	password string
	logins   int

	// switches
	down        bool
	silent      bool
	connectErrs []error
	observeErrs []error
	problems    map[machine.Check]machine.Problem
	startErrs   map[machine.Service]string
	stepErrs    map[string]string
	losses      []Loss
	refusals    []string
	holding     bool
	rebootAfter int // steps of the next job; 0: off
	blocked     chan struct{}
	waiting     int // Starts that wait for blocked
	stageErrs   []error
	stageGate   chan struct{}
	sessions    map[*session]struct{}
	observed    int
	passes      [][]machine.Check
}

// NewLinux makes a Linux host with systemd and nothing on it.
func NewLinux() *Host {
	h := newHost(v1alpha1.Linux)
	h.facts = machine.Facts{
		Hostname: "linux", OSName: "Debian GNU/Linux 12 (bookworm)", OSVersion: "12", Kernel: "6.1.0-18-amd64",
		Architecture: "amd64", InitSystem: "systemd", CPUs: 4, MemoryBytes: 8 << 30,
	}
	h.reboot()
	return h
}

// NewWindows makes a Windows host with nothing on it.
func NewWindows() *Host {
	h := newHost(v1alpha1.Windows)
	h.facts = machine.Facts{
		Hostname: "WINDOWS", OSName: "Microsoft Windows Server 2022 Standard", OSVersion: "10.0.20348",
		Architecture: "amd64", InitSystem: "windows-scm", CPUs: 4, MemoryBytes: 8 << 30,
	}
	h.reboot()
	return h
}

func newHost(os v1alpha1.OperatingSystem) *Host {
	return &Host{
		Now: time.Now, os: os, pids: 100,
		files: map[string]*File{}, units: map[string]*unit{}, services: map[string]*windowsService{},
		marks: map[machine.Subject]machine.MarkState{}, jobs: map[string]*job{},
		problems: map[machine.Check]machine.Problem{}, startErrs: map[machine.Service]string{},
		stepErrs: map[string]string{}, sessions: map[*session]struct{}{},
		scripts: map[string]Script{}, staged: map[string][]byte{}, web: map[string]string{},
	}
}

// Network finds hosts by the address of an endpoint. Its Connect is a fleet.Connect.
type Network struct {
	mu    sync.Mutex
	hosts map[string]*Host
}

// Attach makes a host answer at an address.
func (n *Network) Attach(address string, host *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]*Host{}
	}
	n.hosts[address] = host
}

// Connect implements fleet.Connect.
func (n *Network) Connect(ctx context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
	n.mu.Lock()
	host := n.hosts[endpoint.Spec.Address]
	n.mu.Unlock()
	if host == nil {
		return nil, &transport.UnreachableError{Address: endpoint.Spec.Address, Err: errors.New("no route to host")}
	}
	return host.Connect(ctx, endpoint)
}

// Connect implements fleet.Connect for this host alone.
func (h *Host) Connect(ctx context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
	if err := h.await(ctx, "connect"); err != nil {
		return nil, &transport.UnreachableError{Address: endpoint.Spec.Address, Err: err}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := pop(&h.connectErrs); err != nil {
		return nil, err
	}
	if h.down {
		return nil, &transport.UnreachableError{Address: endpoint.Spec.Address, Err: errors.New("connection refused")}
	}
	if err := h.identify(endpoint); err != nil {
		return nil, err
	}
	h.logins++
	if h.password != "" && h.password != endpoint.Credentials.Password {
		return nil, &transport.CredentialsError{Method: "password", User: endpoint.Credentials.Username}
	}
	s := &session{host: h}
	h.sessions[s] = struct{}{}
	return s, nil
}

// identify shows the host key, as an SSH server does before any credential is sent.
func (h *Host) identify(endpoint fleet.Endpoint) error {
	if endpoint.Spec.SSH == nil || h.key == "" || slices.Contains(endpoint.HostKeys, h.key) {
		return nil
	}
	reason := transport.TrustMismatch
	if len(endpoint.HostKeys) == 0 {
		reason = transport.TrustUnpinned
	}
	return &transport.TrustError{Reason: reason, Seen: h.key, Fingerprint: fingerprint(h.key)}
}

func fingerprint(key string) string { return "SHA256:" + digest([]byte(key))[:43] }

// await blocks while the host is silent.
func (h *Host) await(ctx context.Context, doing string) error {
	h.mu.Lock()
	silent := h.silent
	h.mu.Unlock()
	if !silent {
		return ctx.Err()
	}
	<-ctx.Done()
	return fmt.Errorf("%s: %w", doing, ctx.Err())
}

// session is one connection to a host.
type session struct{ host *Host }

var _ machine.Machine = (*session)(nil)

// enter waits until the host hears a request, and fails if it never does.
func (s *session) enter(ctx context.Context, doing string) error {
	if err := s.host.await(ctx, doing); err != nil {
		return &transport.LostError{Doing: doing, Err: err}
	}
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if _, open := s.host.sessions[s]; !open || s.host.down {
		return &transport.LostError{Doing: doing, Err: errors.New("connection reset by peer")}
	}
	return nil
}

// Peer implements fleet.Introduced.
func (s *session) Peer() fleet.Peer {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	peer := fleet.Peer{HostKey: s.host.key}
	if s.host.key != "" {
		peer.Fingerprint = fingerprint(s.host.key)
	}
	return peer
}

// Facts implements machine.Machine.
func (s *session) Facts(ctx context.Context) (machine.Facts, error) {
	if err := s.enter(ctx, "read facts"); err != nil {
		return machine.Facts{}, err
	}
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.host.facts, nil
}

// Observe implements machine.Machine.
func (s *session) Observe(ctx context.Context, checks []machine.Check) (machine.Observation, error) {
	if err := s.enter(ctx, "observe"); err != nil {
		return machine.Observation{}, err
	}
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observed++
	h.passes = append(h.passes, slices.Clone(checks))
	if len(h.passes) > 100 {
		h.passes = h.passes[1:]
	}
	if err := pop(&h.observeErrs); err != nil {
		return machine.Observation{}, err
	}
	answers := make(map[machine.Check]machine.Answer, len(checks))
	for _, check := range checks {
		answers[check] = h.answer(check)
	}
	return machine.Observation{BootID: h.facts.BootID, Answers: answers}, nil
}

// Start implements machine.Machine.
func (s *session) Start(ctx context.Context, asked machine.Job) (machine.JobState, error) {
	if err := s.enter(ctx, "start job "+asked.ID); err != nil {
		return machine.JobState{}, err
	}
	h := s.host
	h.mu.Lock()
	if blocked := h.blocked; blocked != nil {
		h.waiting++
		h.mu.Unlock()
		select {
		case <-blocked:
		case <-ctx.Done():
		}
		h.mu.Lock()
		h.waiting--
	}
	defer h.mu.Unlock()
	loss := Loss("")
	if len(h.losses) > 0 {
		loss, h.losses = h.losses[0], h.losses[1:]
	}
	lost := &transport.LostError{Doing: "start job " + asked.ID, Err: errors.New("connection reset by peer")}
	if loss == BeforeEffect {
		return machine.JobState{}, lost
	}
	if asked.Epoch < h.epoch {
		return machine.JobState{}, &machine.StaleLeaderError{Epoch: asked.Epoch, Seen: h.epoch}
	}
	if len(h.refusals) > 0 {
		reason := h.refusals[0]
		h.refusals = h.refusals[1:]
		return machine.JobState{}, &machine.RefusedError{JobID: asked.ID, Reason: reason}
	}
	h.epoch = asked.Epoch
	started := h.start(asked, loss == DuringEffect)
	if loss != "" || h.down {
		return machine.JobState{}, lost
	}
	return started.state, nil
}

// Forget implements machine.Machine.
func (s *session) Forget(ctx context.Context, ids []string) error {
	if err := s.enter(ctx, "forget jobs"); err != nil {
		return err
	}
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	for _, id := range ids {
		if j := s.host.jobs[id]; j != nil && j.state.Phase != machine.JobRunning {
			delete(s.host.jobs, id)
		}
	}
	return nil
}

// Close implements machine.Machine.
func (s *session) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	delete(s.host.sessions, s)
	return nil
}

func pop(errs *[]error) error {
	if len(*errs) == 0 {
		return nil
	}
	err := (*errs)[0]
	*errs = (*errs)[1:]
	return err
}
