package cim

import (
	"context"
	"strconv"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wql"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

func (r *Repository) processClass() *class {
	c := &class{name: "Win32_Process", namespaces: []string{"root/cimv2"}, keys: []string{"Handle"}, find: r.processes}
	c.methods = map[string]method{"create": r.createProcess, "terminate": onInstance(r.terminateProcess)}
	return c
}

func (r *Repository) processes(ctx context.Context, _ *wql.Query) ([]object, error) {
	answer, err := r.call(ctx, "processes")
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, record := range answer.Records {
		// See show in programs/processes.c.
		var n [5]uint64
		for i, field := range []int{0, 1, 3, 4, 7} {
			if n[i], err = strconv.ParseUint(record[field], 10, 64); err != nil {
				return nil, err
			}
		}
		objects = append(objects, object{
			"Caption": record[2], "CommandLine": orNull(record[6]), "CreationClassName": "Win32_Process", "CreationDate": fromFileTime(n[3]),
			"CSCreationClassName": "Win32_ComputerSystem", "CSName": r.name, "Description": record[2], "ExecutablePath": orNull(record[5]),
			"ExecutionState": nil, "Handle": record[0], "InstallDate": nil, "Name": record[2], "OSName": caption,
			"ParentProcessId": n[1], "ProcessId": n[0], "SessionId": uint32(0), "Status": nil, "TerminationDate": nil,
			"ThreadCount": n[2], "WindowsVersion": version, "WorkingSetSize": n[4],
		})
	}
	return objects, nil
}

// createProcess starts a program that belongs to no shell.
func (r *Repository) createProcess(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
	line := one(in, "CommandLine", "")
	if line == "" {
		return object{"ProcessId": nil, "ReturnValue": uint32(21)}, nil
	}
	answer, err := r.call(ctx, "process-create", line, one(in, "CurrentDirectory", wine.Absent))
	if err != nil {
		return nil, err
	}
	if answer.Code != 0 {
		return object{"ProcessId": nil, "ReturnValue": processResult(answer.Code)}, nil
	}
	return object{"ProcessId": answer.Words[0], "ReturnValue": uint32(0)}, r.journal.record(FromCIM, CreateProcess, line)
}

// processResult is the documented result for a Win32 code.
func processResult(code uint32) uint32 {
	switch code {
	case win32FileNotFound, win32PathNotFound, 267: // ERROR_DIRECTORY
		return 9
	case win32AccessDenied:
		return 2
	case 87:
		return 21
	default:
		return 8
	}
}

func (r *Repository) terminateProcess(ctx context.Context, on object, in wsman.Parameters) (object, error) {
	answer, err := r.call(ctx, "process-terminate", on["Handle"].(string), one(in, "Reason", "0"))
	if err != nil {
		return nil, err
	}
	if answer.Code == 87 { // It has ended since it was found.
		return nil, wsman.NotFound()
	}
	if answer.Code != 0 {
		return returned(processResult(answer.Code)), nil
	}
	return returned(0), nil
}
