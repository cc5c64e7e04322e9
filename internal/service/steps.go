package service

import (
	"slices"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Idempotent tells whether all steps may be carried out again when it is not
// known whether, or how far, they were. A script that does not say so may not.
func (p Plan) Idempotent() bool {
	return !slices.ContainsFunc(p.Steps, func(step machine.Step) bool {
		run, ok := step.(machine.RunScript)
		return ok && !run.Idempotent
	})
}

// Names says what each step does, for the message of one that fails.
func (p Plan) Names() []string {
	names := make([]string, 0, len(p.Steps))
	for _, step := range p.Steps {
		name := nameOf(step)
		if _, ok := step.(machine.RunScript); ok && !p.Applies {
			name = "run the recorded remove script"
		}
		names = append(names, name)
	}
	return names
}

// nameOf says what a step does.
func nameOf(step machine.Step) string {
	switch s := step.(type) {
	case machine.Claim:
		return "write down who manages " + string(s.Subject)
	case machine.Release:
		return "strike out who manages " + string(s.Subject)
	case machine.RunScript:
		return "run spec.script.apply"
	case machine.ReloadUnits:
		return "reload systemd's units"
	case machine.EnableUnit:
		return "enable " + s.Unit
	case machine.DisableUnit:
		return "disable " + s.Unit
	}
	if name := nameOfFileStep(step); name != "" {
		return name
	}
	return nameOfServiceStep(step)
}

func nameOfFileStep(step machine.Step) string {
	switch s := step.(type) {
	case machine.PutFile:
		return "put " + s.Path
	case machine.PlaceFile:
		return "put " + s.Path
	case machine.FetchFile:
		return "download " + s.Path + " from " + withoutQuery(s.URL)
	case machine.RemoveFile:
		return "remove " + s.Path
	}
	return ""
}

func nameOfServiceStep(step machine.Step) string {
	switch s := step.(type) {
	case machine.StartService:
		return "start " + s.Service.Name
	case machine.RestartService:
		return "restart " + s.Service.Name
	case machine.StopService:
		return "stop " + s.Service.Name
	case machine.RecordStart:
		return "write down the start of " + s.Service.Name
	case machine.CreateWindowsService:
		return "create service " + s.Name
	case machine.ChangeWindowsService:
		return "change service " + s.Name
	case machine.DeleteWindowsService:
		return "delete service " + s.Name
	}
	return ""
}

// target is the path of the file that a step puts in place, if it does.
func target(step machine.Step) string {
	switch s := step.(type) {
	case machine.PutFile:
		return s.Path
	case machine.PlaceFile:
		return s.Path
	case machine.FetchFile:
		return s.Path
	}
	return ""
}
