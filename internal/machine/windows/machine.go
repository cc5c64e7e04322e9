package windows

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// DefaultStateDir is where Isthmus keeps its few files on a Windows host.
const DefaultStateDir = `C:\ProgramData\isthmus`

const cimv2 = "root/cimv2"

// Remote is a Windows host that can be asked, told and run commands on.
// winrm.Client implements it. Its methods may be called from several goroutines.
type Remote interface {
	Query(ctx context.Context, namespace, wql string) ([]winrm.Instance, error)
	Invoke(ctx context.Context, namespace, class string, keys map[string]string, method string, params []winrm.Param) (winrm.Instance, error)
	Run(ctx context.Context, r winrm.Request) (winrm.Result, error)
	Address() netip.AddrPort
	Close() error
}

// Options of a machine. The leader's identity comes with each job.
type Options struct {
	// StateDir is an absolute path on a local disk; empty: DefaultStateDir.
	StateDir string
}

// Machine is one Windows host.
type Machine struct {
	remote Remote
	// address is where the remote was when the machine was made. Its name may stand for several
	// addresses, and it may connect to another one later.
	address string
	state   layout
	cache   *cache
	// poll is how long to wait before a pending state is looked at again.
	poll time.Duration
	// moment is how long Start waits for a job whose steps may take long, patient for any other.
	moment, patient time.Duration
	// held is how long a service that is marked for deletion is waited for.
	held time.Duration
	// secured says that this value has seen to the rights of the state directory.
	secured atomic.Bool
	// background are the jobs that Start no longer waits for.
	background sync.WaitGroup
	// defect is a panic in one of them. The remote is in a state that nobody knows then, so
	// the next observation fails with it, which has the caller connect again.
	defect  atomic.Pointer[defect.PanicError]
	scripts *checkScripts
}

var _ machine.Machine = (*Machine)(nil)

// New makes a machine of a remote, which it closes with Close.
func New(remote Remote, options Options) (*Machine, error) {
	dir := options.StateDir
	if dir == "" {
		dir = DefaultStateDir
	}
	state, err := newLayout(dir)
	if err != nil {
		return nil, err
	}
	return &Machine{remote: remote, address: remote.Address().String(), state: state, cache: newCache(), poll: 250 * time.Millisecond,
		moment: 2 * time.Second, patient: 30 * time.Second, held: 30 * time.Second, scripts: newCheckScripts()}, nil
}

// Close implements machine.Machine. A job that is carried out here ends in the
// middle, as if the operator had died.
func (m *Machine) Close() error {
	err := m.remote.Close()
	m.background.Wait()
	return err
}

func (m *Machine) noteDefect(err error) {
	var panicked *defect.PanicError
	if errors.As(err, &panicked) {
		m.defect.CompareAndSwap(nil, panicked)
	}
}

// Facts implements machine.Machine.
func (m *Machine) Facts(ctx context.Context) (machine.Facts, error) {
	system, err := m.one(ctx, "SELECT Caption,Version,LastBootUpTime FROM Win32_OperatingSystem")
	if err != nil {
		return machine.Facts{}, err
	}
	computer, err := m.one(ctx, "SELECT Name,SystemType,NumberOfLogicalProcessors,TotalPhysicalMemory FROM Win32_ComputerSystem")
	if err != nil {
		return machine.Facts{}, err
	}
	cpus, _ := strconv.Atoi(computer.String("NumberOfLogicalProcessors"))
	memory, _ := strconv.ParseInt(computer.String("TotalPhysicalMemory"), 10, 64)
	return machine.Facts{
		Hostname:     computer.String("Name"),
		OSName:       system.String("Caption"),
		OSVersion:    system.String("Version"),
		Architecture: architecture(computer.String("SystemType")),
		InitSystem:   "windows-scm",
		BootID:       instant(system.String("LastBootUpTime")),
		CPUs:         cpus,
		MemoryBytes:  memory,
	}, nil
}

// architecture reads Win32_ComputerSystem.SystemType, which is not localised.
func architecture(systemType string) string {
	kind, _, _ := strings.Cut(strings.ToLower(systemType), "-")
	switch kind {
	case "x64":
		return "amd64"
	case "arm64":
		return "arm64"
	case "x86":
		return "386"
	default:
		return kind
	}
}

// one asks for the only instance that a query selects.
func (m *Machine) one(ctx context.Context, wql string) (winrm.Instance, error) {
	instances, err := m.remote.Query(ctx, cimv2, wql)
	if err != nil {
		return nil, err
	}
	if len(instances) != 1 {
		return nil, fmt.Errorf("%s: %d instances, want one", wql, len(instances))
	}
	return instances[0], nil
}

// clock is the boot and the time of the host.
type clock struct{ boot, now string }

func (m *Machine) clock(ctx context.Context) (clock, error) {
	system, err := m.one(ctx, "SELECT LastBootUpTime,LocalDateTime FROM Win32_OperatingSystem")
	if err != nil {
		return clock{}, err
	}
	return clock{boot: instant(system.String("LastBootUpTime")), now: instant(system.String("LocalDateTime"))}, nil
}

// instant writes a date of WMI in UTC. WMI writes dates with the offset that
// is in force when it is asked, so that the same instant reads differently
// after a change to or from summer time; instants are compared as text here.
func instant(date string) string {
	parsed, err := time.Parse(time.RFC3339Nano, date)
	if err != nil {
		return date
	}
	return parsed.UTC().Format(time.RFC3339Nano)
}
