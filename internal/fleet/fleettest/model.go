package fleettest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// File is a file of a Host.
type File struct {
	Kind    machine.FileKind // regular unless set
	Content []byte
	Mode    uint32
	Owner   string
	Group   string
}

// unit is a systemd unit. Its file is among the files.
type unit struct {
	loaded   string // digest of the definition that systemd has read; empty: none
	active   string
	sub      string
	result   string
	enabled  bool
	pid      int
	instance string
	since    string
}

type windowsService struct {
	name, display, description, binary, mode, account string
	running                                           bool
	pid                                               int
	exit                                              uint32
	instance, since                                   string
}

// job is a job that the host knows.
type job struct {
	job   machine.Job
	next  int // step
	state machine.JobState
}

const (
	unitDirectory    = "/etc/systemd/system/"
	packageDirectory = "/lib/systemd/system/"
)

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (h *Host) note(format string, arguments ...any) {
	h.journal = append(h.journal, fmt.Sprintf(format, arguments...))
}

func (h *Host) stamp() string { return h.Now().UTC().Format(time.RFC3339) }

func (h *Host) answer(check machine.Check) machine.Answer {
	if problem, ok := h.problems[check]; ok {
		return problem
	}
	switch c := check.(type) {
	case machine.File:
		return h.fileState(c.Path)
	case machine.Unit:
		if h.os != v1alpha1.Linux {
			return machine.Problem{Reason: "NotSupported", Message: "the host has no systemd"}
		}
		return h.unitState(c.Name)
	case machine.WindowsService:
		if h.os != v1alpha1.Windows {
			return machine.Problem{Reason: "NotSupported", Message: "the host is not Windows"}
		}
		return h.serviceState(c.Name)
	case machine.Mark:
		return h.marks[c.Subject]
	case machine.Script:
		return h.scriptState(c)
	case machine.JobReceipt:
		if j := h.jobs[c.ID]; j != nil {
			return j.state
		}
		return machine.JobState{Phase: machine.JobAbsent}
	}
	return machine.Problem{Reason: "NotSupported", Message: fmt.Sprintf("the model does not know %T", check)}
}

func (h *Host) fileState(path string) machine.FileState {
	file := h.files[path]
	if file == nil {
		return machine.FileState{Kind: machine.FileAbsent}
	}
	if file.Kind != machine.FileRegular {
		return machine.FileState{Kind: file.Kind}
	}
	return machine.FileState{
		Kind: file.Kind, SHA256: digest(file.Content), Size: int64(len(file.Content)),
		Mode: file.Mode, Owner: file.Owner, Group: file.Group,
	}
}

func (h *Host) fragment(name string) (path string, definition *File) {
	for _, directory := range []string{unitDirectory, packageDirectory} {
		if file := h.files[directory+name]; file != nil {
			return directory + name, file
		}
	}
	return "", nil
}

// unit returns what systemd knows of a unit; like systemd it reads a unit's
// file when it is asked for the unit first.
func (h *Host) unit(name string) *unit {
	u := h.units[name]
	if u == nil {
		u = &unit{active: "inactive", sub: "dead", result: "success"}
		h.units[name] = u
	}
	if _, file := h.fragment(name); file != nil && u.loaded == "" {
		u.loaded = digest(file.Content)
	}
	return u
}

func (h *Host) unitState(name string) machine.UnitState {
	u := h.unit(name)
	path, file := h.fragment(name)
	state := machine.UnitState{
		Load: "not-found", Active: u.active, Sub: u.sub, Result: u.result,
		MainPID: u.pid, Instance: u.instance,
	}
	if u.loaded != "" {
		state.Load = "loaded"
		state.NeedReload = file == nil || digest(file.Content) != u.loaded
	}
	if file != nil {
		state.Fragment = path
		state.Enabled = "disabled"
		if u.enabled {
			state.Enabled = "enabled"
		}
	}
	if u.active == "active" {
		state.Since = u.since
	}
	return state
}

func (h *Host) serviceState(name string) machine.WindowsServiceState {
	s := h.services[strings.ToLower(name)]
	if s == nil {
		return machine.WindowsServiceState{}
	}
	state := machine.WindowsServiceState{
		Exists: true, State: "Stopped", StartMode: s.mode, DisplayName: s.display, Description: s.description,
		BinaryPath: s.binary, Account: s.account, ProcessID: s.pid, ExitCode: s.exit, Instance: s.instance,
	}
	if s.running {
		state.State, state.Since = "Running", s.since
	}
	return state
}

// reboot ends all processes and jobs, and starts what is started at boot.
func (h *Host) reboot() {
	h.boots++
	h.facts.BootID = fmt.Sprintf("%08d-b007-4000-8000-000000000000", h.boots)
	for _, j := range h.jobs {
		if j.state.Phase == machine.JobRunning {
			j.state.Phase = machine.JobLost
		}
	}
	for name, u := range h.units {
		u.stopped()
		u.loaded = ""
		service := machine.Service{Manager: machine.Systemd, Name: name}
		if u.enabled && h.startErrs[service] == "" {
			h.run(service)
		}
	}
	for _, s := range h.services {
		s.stopped()
		if strings.HasPrefix(s.mode, "Automatic") {
			h.run(machine.Service{Manager: machine.WindowsSCM, Name: s.name})
		}
	}
	for s := range h.sessions {
		delete(h.sessions, s)
	}
}

func (u *unit) stopped() {
	u.active, u.sub, u.pid, u.since = "inactive", "dead", 0, ""
}

func (s *windowsService) stopped() {
	s.running, s.pid, s.instance, s.since = false, 0, "", ""
}

// run gives a service a new process, without a note in the journal.
func (h *Host) run(service machine.Service) {
	h.pids++
	instance := fmt.Sprintf("%032x", h.pids)
	if service.Manager == machine.Systemd {
		u := h.unit(service.Name)
		u.active, u.sub, u.result = "active", "running", "success"
		u.pid, u.instance, u.since = h.pids, instance, h.stamp()
		return
	}
	s := h.services[strings.ToLower(service.Name)]
	s.running, s.pid, s.instance, s.since = true, h.pids, instance, h.stamp()
}

// instance of a running service; empty: it does not run.
func (h *Host) instance(service machine.Service) string {
	if service.Manager == machine.Systemd {
		if u := h.units[service.Name]; u != nil && u.active == "active" {
			return u.instance
		}
		return ""
	}
	if s := h.services[strings.ToLower(service.Name)]; s != nil && s.running {
		return s.instance
	}
	return ""
}

// start begins a job, or returns the one that is known by its id.
func (h *Host) start(asked machine.Job, detached bool) *job {
	if known := h.jobs[asked.ID]; known != nil {
		return known
	}
	asked.Steps = slices.Clone(asked.Steps)
	j := &job{job: asked, state: machine.JobState{
		Phase: machine.JobRunning, Epoch: asked.Epoch, BootID: h.facts.BootID, Started: h.stamp(),
	}}
	h.jobs[asked.ID] = j
	if !h.holding && !detached {
		h.carryOut(j)
	}
	return j
}

// carryOut runs the steps of a job that are left.
func (h *Host) carryOut(j *job) {
	defer h.dropTaken()
	done := 0
	for ; j.next < len(j.job.Steps); j.next++ {
		j.state.Step = j.next
		if err := h.step(j.job.Steps[j.next]); err != nil {
			j.state.Phase, j.state.ExitCode, j.state.Finished = machine.JobFailed, 1, h.stamp()
			j.state.Message = redact(err.Error(), j.job.Secrets)
			return
		}
		if done++; h.rebootAfter == done {
			h.rebootAfter = 0
			h.down = true
			h.reboot()
			return
		}
	}
	j.state.Phase, j.state.Finished, j.state.Step = machine.JobSucceeded, h.stamp(), len(j.job.Steps)-1
}

func redact(message string, secrets []machine.Secret) string {
	for _, secret := range secrets {
		if len(secret) > 0 {
			message = strings.ReplaceAll(message, string([]byte(secret)), "[redacted]")
		}
	}
	return message
}
