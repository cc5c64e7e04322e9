package service

import (
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Kinds of things in an inventory.
const (
	KindFile           = "File"
	KindSystemdUnit    = "SystemdUnit"
	KindWindowsService = "WindowsService"
	KindScript         = "Script"
)

// fileSubject is the name under which a file is claimed. Windows does not tell
// upper from lower case in a path, so there the name is in lower case.
func fileSubject(path string) machine.Subject {
	if isWindowsPath(path) {
		path = strings.ToLower(path)
	}
	return machine.Subject("file/" + path)
}

// scriptSubject is the name under which a component of scripts is claimed:
// that of its object, "namespace/name".
func scriptSubject(object string) machine.Subject { return machine.Subject("script/" + object) }

// dueSubject is marked while a file has changed, or is about to, and apply has not been run since.
func dueSubject(object string) machine.Subject { return machine.Subject("script/" + object + "/due") }

// windowsName is how a Windows service is spoken of in checks, marks and starts:
// the service control manager does not tell upper from lower case.
func windowsName(name string) string { return strings.ToLower(name) }

func unitOf(name string) machine.Service {
	return machine.Service{Manager: machine.Systemd, Name: name}
}

func windowsServiceOf(name string) machine.Service {
	return machine.Service{Manager: machine.WindowsSCM, Name: windowsName(name)}
}

// definitionPath is where the unit file of a unit is kept.
func definitionPath(unit string) string { return "/etc/systemd/system/" + unit }

func isWindowsPath(path string) bool {
	return len(path) > 3 && path[1] == ':' && path[2] == '\\' &&
		(path[0] >= 'A' && path[0] <= 'Z' || path[0] >= 'a' && path[0] <= 'z')
}

func badWindowsPart(path string) bool {
	for part := range strings.SplitSeq(path[3:], `\`) {
		if part == "" || strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
			return true
		}
	}
	return false
}

// program splits a Windows command line into the path of the program and the rest.
func program(commandLine string) (executable, arguments string) {
	if quoted, found := strings.CutPrefix(commandLine, `"`); found {
		executable, arguments, _ = strings.Cut(quoted, `"`)
		return executable, arguments
	}
	executable, arguments, _ = strings.Cut(commandLine, " ")
	return executable, arguments
}

// sameCommandLine compares as Windows does: the path of the program without
// regard to case, the arguments and the quotes exactly.
func sameCommandLine(a, b string) bool {
	programA, argumentsA := program(a)
	programB, argumentsB := program(b)
	return strings.EqualFold(programA, programB) && argumentsA == argumentsB &&
		strings.HasPrefix(a, `"`) == strings.HasPrefix(b, `"`)
}

// short makes a digest readable: enough to compare, in the usual spelling.
func short(sha256 string) string {
	if len(sha256) > 12 {
		sha256 = sha256[:12]
	}
	return "sha256:" + sha256
}
