package cim

import (
	"context"
	"strconv"
	"strings"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wql"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// Win32 codes, from winerror.h.
const (
	win32FileNotFound    = 2
	win32PathNotFound    = 3
	win32AccessDenied    = 5
	win32NoSuchService   = 1060
	win32ServiceDisabled = 1058
)

// serviceResults are the results that the methods of Win32_Service document, by the
// Win32 code that causes them.
var serviceResults = map[uint32]uint32{
	0:                    0,
	50:                   1,
	win32AccessDenied:    2,
	1051:                 3, // ERROR_DEPENDENT_SERVICES_RUNNING
	1052:                 4, // ERROR_INVALID_SERVICE_CONTROL
	1061:                 5, // ERROR_SERVICE_CANNOT_ACCEPT_CTRL
	1062:                 6, // ERROR_SERVICE_NOT_ACTIVE
	1053:                 7, // ERROR_SERVICE_REQUEST_TIMEOUT
	win32FileNotFound:    9,
	win32PathNotFound:    9,
	1056:                 10, // ERROR_SERVICE_ALREADY_RUNNING
	1055:                 11, // ERROR_SERVICE_DATABASE_LOCKED
	1075:                 12, // ERROR_SERVICE_DEPENDENCY_DELETED
	1068:                 13, // ERROR_SERVICE_DEPENDENCY_FAIL
	win32ServiceDisabled: 14,
	1069:                 15, // ERROR_SERVICE_LOGON_FAILED
	1072:                 16, // ERROR_SERVICE_MARKED_FOR_DELETE
	1054:                 17, // ERROR_SERVICE_NO_THREAD
	1059:                 18, // ERROR_CIRCULAR_DEPENDENCY
	1078:                 19, // ERROR_DUPLICATE_SERVICE_NAME
	123:                  20, // ERROR_INVALID_NAME
	87:                   21, // ERROR_INVALID_PARAMETER
	1057:                 22, // ERROR_INVALID_SERVICE_ACCOUNT
	1073:                 23, // ERROR_SERVICE_EXISTS
}

// serviceResult is the result for a Win32 code; 8 is an unknown failure.
func serviceResult(code uint32) uint32 {
	if result, ok := serviceResults[code]; ok {
		return result
	}
	return 8
}

var (
	serviceStates = []string{"Unknown", "Stopped", "Start Pending", "Stop Pending", "Running", "Continue Pending", "Pause Pending", "Paused"}
	startModes    = []string{"Boot", "System", "Auto", "Manual", "Disabled"}
	errorControls = []string{"Ignore", "Normal", "Severe", "Critical"}
	// startModeCodes are the start modes as the methods take them.
	startModeCodes = map[string]string{"boot": "0", "system": "1", "automatic": "2", "manual": "3", "disabled": "4"}
)

// mostNames is how many names one request to the provider may have.
const mostNames = 20

// servicesKey is the registry key below which services have theirs.
const servicesKey = `SYSTEM\CurrentControlSet\Services\`

func (r *Repository) serviceClass() *class {
	c := &class{name: "Win32_Service", namespaces: []string{"root/cimv2"}, keys: []string{"Name"}, find: r.services}
	c.methods = map[string]method{
		"create":          r.createService,
		"change":          onInstance(r.changeService),
		"changestartmode": onInstance(r.changeStartMode),
		"startservice":    onInstance(r.startService),
		"stopservice":     onInstance(r.stopService),
		"delete":          onInstance(r.deleteService),
	}
	return c
}

// services asks for the services that a query names, or for all.
func (r *Repository) services(ctx context.Context, query *wql.Query) ([]object, error) {
	names, some := query.Alternatives("Name")
	if !some || len(names) > mostNames {
		names = nil
	}
	answer, err := r.call(ctx, "services", names...)
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, record := range answer.Records {
		o, err := r.service(record)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// service makes an object of a record; see show in programs/services.c.
func (r *Repository) service(record []string) (object, error) {
	var n [11]uint32
	for i := range n {
		value, err := strconv.ParseUint(record[6+i], 10, 32)
		if err != nil {
			return nil, err
		}
		n[i] = uint32(value)
	}
	kind, start, severity, state, accepts := n[0], n[1], n[2], n[3], n[4]
	exit, specific, checkpoint, hint, pid, delayed := n[5], n[6], n[7], n[8], n[9], n[10] == 1
	if state == 1 {
		pid = 0
	}
	serviceType := "Own Process"
	if kind&0x20 != 0 {
		serviceType = "Share Process"
	}
	return object{
		"AcceptPause": accepts&2 != 0, "AcceptStop": accepts&1 != 0, "Caption": orNull(record[1]), "CheckPoint": checkpoint,
		"CreationClassName": "Win32_Service", "DelayedAutoStart": delayed, "Description": orNull(record[4]),
		"DesktopInteract": kind&0x100 != 0, "DisplayName": orNull(record[1]), "ErrorControl": name(errorControls, severity),
		"ExitCode": exit, "InstallDate": nil, "Name": record[0], "PathName": orNull(record[2]), "ProcessId": pid,
		"ServiceSpecificExitCode": specific, "ServiceType": serviceType, "Started": state != 1, "StartMode": name(startModes, start),
		"StartName": orNull(record[3]), "State": name(serviceStates, state), "Status": "OK",
		"SystemCreationClassName": "Win32_ComputerSystem", "SystemName": r.name, "TagId": uint32(0), "WaitHint": hint,
	}, nil
}

func name(names []string, i uint32) string {
	if int(i) < len(names) {
		return names[i]
	}
	return "Unknown"
}

// settings are the parameters that Create and Change share, as words of the provider.
func settings(in wsman.Parameters) (words []string, ok bool) {
	start := wine.Absent
	if mode := one(in, "StartMode", ""); mode != "" {
		if start, ok = startModeCodes[strings.ToLower(mode)]; !ok {
			return nil, false
		}
	}
	return []string{one(in, "DisplayName", wine.Absent), one(in, "PathName", wine.Absent), one(in, "ServiceType", wine.Absent), start,
		one(in, "ErrorControl", wine.Absent), one(in, "StartName", wine.Absent), one(in, "StartPassword", wine.Absent)}, true
}

func (r *Repository) createService(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
	name := one(in, "Name", "")
	words, ok := settings(in)
	if !ok || name == "" || words[1] == wine.Absent {
		return returned(21), nil
	}
	for i, missing := range map[int]string{0: name, 2: "16", 3: "3", 4: "1"} {
		if words[i] == wine.Absent {
			words[i] = missing
		}
	}
	return r.effect(ctx, Create, name, in, "service-create", append([]string{name}, words...)...)
}

func (r *Repository) changeService(ctx context.Context, on object, in wsman.Parameters) (object, error) {
	words, ok := settings(in)
	if !ok {
		return returned(21), nil
	}
	name := on["Name"].(string)
	return r.effect(ctx, Change, name, in, "service-change", append([]string{name}, words...)...)
}

func (r *Repository) changeStartMode(ctx context.Context, on object, in wsman.Parameters) (object, error) {
	if in["StartMode"] == nil {
		return returned(21), nil
	}
	return r.changeService(ctx, on, wsman.Parameters{"StartMode": in["StartMode"]})
}

func (r *Repository) startService(ctx context.Context, on object, _ wsman.Parameters) (object, error) {
	name := on["Name"].(string)
	return r.effect(ctx, Start, name, nil, "service-start", name)
}

func (r *Repository) stopService(ctx context.Context, on object, _ wsman.Parameters) (object, error) {
	name := on["Name"].(string)
	return r.effect(ctx, Stop, name, nil, "service-control", name, "1")
}

func (r *Repository) deleteService(ctx context.Context, on object, _ wsman.Parameters) (object, error) {
	name := on["Name"].(string)
	return r.effect(ctx, Delete, name, nil, "service-delete", name)
}

// effect has the provider do something to a service, and writes it down if it was done.
func (r *Repository) effect(ctx context.Context, verb, name string, in wsman.Parameters, request string, words ...string) (object, error) {
	answer, err := r.call(ctx, request, words...)
	if err != nil {
		return nil, err
	}
	if answer.Code == win32NoSuchService {
		return nil, wsman.NotFound()
	}
	if answer.Code != 0 {
		return returned(serviceResult(answer.Code)), nil
	}
	if dependencies, ok := in["ServiceDependencies"]; ok {
		if _, err := r.call(ctx, "registry-set", localMachine, servicesKey+name, "DependOnService", typeMultiString, multiString(dependencies)); err != nil {
			return nil, err
		}
	}
	return returned(0), r.journal.record(FromCIM, verb, name)
}
