package windows

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// The states of Win32_Service.State that are decided upon.
const (
	running      = "Running"
	stopped      = "Stopped"
	paused       = "Paused"
	startPending = "Start Pending"
)

// perQuery bounds the conditions of one query: WMI refuses queries that are too complex.
const perQuery = 40

const serviceColumns = "Name,State,StartMode,DelayedAutoStart,DisplayName,Description,PathName,StartName,ProcessId,ExitCode,ServiceSpecificExitCode,ServiceType"

// scmService is a service together with its process.
type scmService struct {
	machine.WindowsServiceState
	name     string // as the service control manager spells it
	shared   bool   // its process may serve others, and outlive it
	specific uint32
}

// services reads services by name, with their processes: two queries for any
// number of them. The result is keyed by lower-case name; what is not there is missing.
func (m *Machine) services(ctx context.Context, names []string) (map[string]scmService, error) {
	found, complete, err := m.servicesOnce(ctx, names)
	if err != nil || complete {
		return found, err
	}
	// A process ended or began between the two queries; look again, once.
	found, _, err = m.servicesOnce(ctx, names)
	return found, err
}

func (m *Machine) servicesOnce(ctx context.Context, names []string) (found map[string]scmService, complete bool, err error) {
	literals, err := wqlStrings(names)
	if err != nil {
		return nil, false, err
	}
	instances, err := m.selectEither(ctx, "SELECT "+serviceColumns+" FROM Win32_Service", "Name", literals)
	if err != nil {
		return nil, false, err
	}
	found = map[string]scmService{}
	var pids []string
	for _, instance := range instances {
		s := newService(instance)
		found[strings.ToLower(s.name)] = s
		if s.ProcessID != 0 {
			pids = append(pids, strconv.Itoa(s.ProcessID))
		}
	}
	created, err := m.processes(ctx, pids)
	if err != nil {
		return nil, false, err
	}
	complete = true
	for key, s := range found {
		if s.ProcessID == 0 {
			continue
		}
		s.Since = created[s.ProcessID]
		if s.Since == "" {
			complete = false
			continue
		}
		s.Instance = fmt.Sprintf("%d@%s", s.ProcessID, s.Since)
		found[key] = s
	}
	return found, complete, nil
}

func wqlStrings(texts []string) ([]string, error) {
	literals := make([]string, len(texts))
	for i, text := range texts {
		literal, err := wqlString(text)
		if err != nil {
			return nil, err
		}
		literals[i] = literal
	}
	return literals, nil
}

// selectEither asks for the instances whose column has one of some values.
func (m *Machine) selectEither(ctx context.Context, query, column string, literals []string) ([]winrm.Instance, error) {
	var all []winrm.Instance
	for len(literals) > 0 {
		n := min(perQuery, len(literals))
		instances, err := m.remote.Query(ctx, cimv2, query+" WHERE "+either(column, literals[:n]))
		if err != nil {
			return nil, err
		}
		all = append(all, instances...)
		literals = literals[n:]
	}
	return all, nil
}

// processes gives the time at which processes were created, by id.
func (m *Machine) processes(ctx context.Context, pids []string) (map[int]string, error) {
	created := map[int]string{}
	instances, err := m.selectEither(ctx, "SELECT ProcessId,CreationDate FROM Win32_Process", "ProcessId", pids)
	if err != nil {
		return nil, err
	}
	for _, instance := range instances {
		pid, err := strconv.Atoi(instance.String("ProcessId"))
		if err != nil {
			return nil, fmt.Errorf("process id %q: %w", instance.String("ProcessId"), err)
		}
		created[pid] = instant(instance.String("CreationDate"))
	}
	return created, nil
}

func newService(instance winrm.Instance) scmService {
	pid, _ := strconv.Atoi(instance.String("ProcessId"))
	return scmService{
		name:     instance.String("Name"),
		shared:   strings.EqualFold(instance.String("ServiceType"), "Share Process"),
		specific: number(instance.String("ServiceSpecificExitCode")),
		WindowsServiceState: machine.WindowsServiceState{
			Exists:      true,
			State:       instance.String("State"),
			StartMode:   startMode(instance.String("StartMode"), instance.String("DelayedAutoStart")),
			DisplayName: instance.String("DisplayName"),
			Description: instance.String("Description"),
			BinaryPath:  instance.String("PathName"),
			Account:     instance.String("StartName"),
			ProcessID:   pid,
			ExitCode:    number(instance.String("ExitCode")),
		},
	}
}

func number(text string) uint32 {
	value, _ := strconv.ParseUint(text, 10, 32)
	return uint32(value)
}

// startMode translates from Win32_Service, which says Auto where its own
// methods want Automatic, and keeps the delay in a property of its own. The
// property may be left over in another mode, where it means nothing.
func startMode(mode, delayed string) string {
	if mode != "Auto" {
		return mode
	}
	if strings.EqualFold(delayed, "true") {
		return automaticDelayed
	}
	return automatic
}

// The start modes that machine.CreateWindowsService names.
const (
	automatic        = "Automatic"
	automaticDelayed = "AutomaticDelayed"
	manual           = "Manual"
	disabled         = "Disabled"
)

// service reads one service; Exists is false when it is not there.
func (m *Machine) service(ctx context.Context, name string) (scmService, error) {
	if err := checkServiceName(name); err != nil {
		return scmService{}, err
	}
	found, err := m.services(ctx, []string{name})
	if err != nil {
		return scmService{}, err
	}
	return found[strings.ToLower(name)], nil
}
