package fleettest

import (
	"fmt"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// step carries one step out. Only what changes something is put in the journal.
func (h *Host) step(step machine.Step) error {
	name := strings.TrimPrefix(fmt.Sprintf("%T", step), "machine.")
	if message := h.stepErrs[name]; message != "" {
		delete(h.stepErrs, name)
		return fmt.Errorf("%s", message)
	}
	switch s := step.(type) {
	case machine.Claim:
		return h.claim(s)
	case machine.Release:
		return h.release(s)
	case machine.PutFile:
		return h.putFile(s)
	case machine.PlaceFile:
		return h.placeFile(s)
	case machine.FetchFile:
		return h.fetchFile(s)
	case machine.RunScript:
		return h.runScript(s)
	case machine.RemoveFile:
		return h.removeFile(s.Path)
	case machine.StartService:
		return h.startService(s.Service, s.Hash)
	case machine.RestartService:
		return h.restartService(s.Service, s.Hash)
	case machine.StopService:
		return h.stopService(s.Service)
	case machine.RecordStart:
		return h.recordStart(s.Service, s.Hash)
	}
	if h.os == v1alpha1.Windows {
		return h.windowsStep(step)
	}
	return h.systemdStep(step)
}

func (h *Host) systemdStep(step machine.Step) error {
	switch s := step.(type) {
	case machine.ReloadUnits:
		h.reloadUnits()
		return nil
	case machine.EnableUnit:
		return h.enable(s.Unit)
	case machine.DisableUnit:
		if u := h.unit(s.Unit); u.enabled {
			u.enabled = false
			h.note("disable %s", s.Unit)
		}
		return nil
	}
	return fmt.Errorf("%T is not for this host", step)
}

func (h *Host) windowsStep(step machine.Step) error {
	switch s := step.(type) {
	case machine.CreateWindowsService:
		return h.createService(s)
	case machine.ChangeWindowsService:
		return h.changeService(s)
	case machine.DeleteWindowsService:
		return h.deleteService(s.Name)
	}
	return fmt.Errorf("%T is not for this host", step)
}

func (h *Host) claim(s machine.Claim) error {
	mark := h.marks[s.Subject]
	if mark.Exists && (mark.Owner.Cluster != s.Owner.Cluster || mark.Owner.UID != s.Owner.UID) {
		return fmt.Errorf("%s is managed by %s of another cluster or object", s.Subject, mark.Owner.Object)
	}
	if !mark.Exists {
		h.note("claim %s", s.Subject)
	}
	mark.Exists, mark.Owner, mark.Adopted = true, s.Owner, s.Adopted
	h.marks[s.Subject] = mark
	return nil
}

func (h *Host) release(s machine.Release) error {
	mark := h.marks[s.Subject]
	if mark.Exists && mark.Owner.Cluster == s.Owner.Cluster && mark.Owner.UID == s.Owner.UID {
		delete(h.marks, s.Subject)
		h.note("release %s", s.Subject)
	}
	return nil
}

func (h *Host) putFile(s machine.PutFile) error {
	if digest(s.Content) != s.SHA256 {
		return fmt.Errorf("put %s: the digest of the content is not the declared one", s.Path)
	}
	before := h.files[s.Path]
	if before != nil && before.Kind == machine.FileDirectory {
		return fmt.Errorf("put %s: it is a directory", s.Path)
	}
	for _, service := range h.services {
		if service.running && strings.EqualFold(program(service.binary), s.Path) {
			return fmt.Errorf("put %s: the file is used by another process", s.Path)
		}
	}
	after := &File{Kind: machine.FileRegular, Content: append([]byte(nil), s.Content...)}
	if h.os == v1alpha1.Linux {
		after.Mode, after.Owner, after.Group = 0o644, "root", "root"
		if before != nil && before.Kind == machine.FileRegular {
			after.Mode, after.Owner, after.Group = before.Mode, before.Owner, before.Group
		}
		if s.Mode != 0 {
			after.Mode = s.Mode
		}
		if s.Owner != "" {
			after.Owner = s.Owner
		}
		if s.Group != "" {
			after.Group = s.Group
		}
	}
	h.files[s.Path] = after
	h.note("put %s", s.Path)
	return nil
}

// program is the path of the program in a command line.
func program(line string) string {
	if rest, quoted := strings.CutPrefix(line, `"`); quoted {
		path, _, _ := strings.Cut(rest, `"`)
		return path
	}
	path, _, _ := strings.Cut(line, " ")
	return path
}

func (h *Host) removeFile(path string) error {
	file := h.files[path]
	switch {
	case file == nil:
		return nil
	case file.Kind == machine.FileDirectory || file.Kind == machine.FileOther:
		return fmt.Errorf("remove %s: it is not a regular file", path)
	}
	delete(h.files, path)
	h.note("remove %s", path)
	return nil
}

func (h *Host) reloadUnits() {
	for name, u := range h.units {
		u.loaded = ""
		if _, file := h.fragment(name); file != nil {
			u.loaded = digest(file.Content)
		}
	}
	h.note("reload units")
}

func (h *Host) enable(name string) error {
	if _, file := h.fragment(name); file == nil {
		return fmt.Errorf("enable %s: unit file does not exist", name)
	}
	if u := h.unit(name); !u.enabled {
		u.enabled = true
		h.note("enable %s", name)
	}
	return nil
}

func (h *Host) exists(service machine.Service) bool {
	if service.Manager == machine.Systemd {
		return h.os == v1alpha1.Linux && h.unit(service.Name).loaded != ""
	}
	return h.services[strings.ToLower(service.Name)] != nil
}

// launch gives a service a process and marks it as started with the hash.
func (h *Host) launch(service machine.Service, hash, word string) error {
	if !h.exists(service) {
		return fmt.Errorf("%s %s: the service does not exist", word, service.Name)
	}
	if message := h.startErrs[service]; message != "" {
		if service.Manager == machine.Systemd {
			u := h.unit(service.Name)
			u.stopped()
			u.active, u.sub, u.result = "failed", "failed", "exit-code"
		}
		return fmt.Errorf("%s %s: %s", word, service.Name, message)
	}
	h.note("%s %s", word, service.Subject())
	h.run(service)
	h.started(service, hash)
	return nil
}

func (h *Host) started(service machine.Service, hash string) {
	mark := h.marks[service.Subject()]
	mark.Exists = true
	mark.Started, mark.Instance, mark.Pending, mark.Before = hash, h.instance(service), "", ""
	h.marks[service.Subject()] = mark
}

func (h *Host) startService(service machine.Service, hash string) error {
	if h.instance(service) != "" {
		return nil
	}
	return h.launch(service, hash, "start")
}

func (h *Host) restartService(service machine.Service, hash string) error {
	mark := h.marks[service.Subject()]
	running := h.instance(service)
	if mark.Pending == hash && mark.Before != running && running != "" {
		h.started(service, hash) // That start has happened.
		return nil
	}
	mark.Exists, mark.Pending, mark.Before = true, hash, running
	h.marks[service.Subject()] = mark
	return h.launch(service, hash, "restart")
}

func (h *Host) stopService(service machine.Service) error {
	if h.instance(service) == "" {
		return nil
	}
	h.note("stop %s", service.Subject())
	if service.Manager == machine.Systemd {
		h.unit(service.Name).stopped()
		return nil
	}
	h.services[strings.ToLower(service.Name)].stopped()
	return nil
}

func (h *Host) recordStart(service machine.Service, hash string) error {
	if h.instance(service) == "" {
		return fmt.Errorf("record the start of %s: it does not run", service.Name)
	}
	h.started(service, hash)
	return nil
}

func (h *Host) createService(s machine.CreateWindowsService) error {
	key := strings.ToLower(s.Name)
	if h.services[key] != nil {
		return nil
	}
	display := s.DisplayName
	if display == "" {
		display = s.Name
	}
	h.services[key] = &windowsService{
		name: s.Name, display: display, description: s.Description, binary: s.BinaryPath, mode: s.StartMode, account: "LocalSystem",
	}
	h.note("create windowsservice/%s", s.Name)
	return nil
}

func (h *Host) changeService(s machine.ChangeWindowsService) error {
	service := h.services[strings.ToLower(s.Name)]
	if service == nil {
		return fmt.Errorf("change %s: the service does not exist", s.Name)
	}
	changed := false
	for _, field := range []struct {
		target *string
		value  *string
	}{
		{&service.display, s.DisplayName}, {&service.description, s.Description},
		{&service.binary, s.BinaryPath}, {&service.mode, s.StartMode},
	} {
		if field.value != nil && *field.target != *field.value {
			*field.target, changed = *field.value, true
		}
	}
	if changed {
		h.note("change windowsservice/%s", s.Name)
	}
	return nil
}

func (h *Host) deleteService(name string) error {
	service := h.services[strings.ToLower(name)]
	switch {
	case service == nil:
		return nil
	case service.running:
		return fmt.Errorf("delete %s: the service runs", name)
	}
	delete(h.services, strings.ToLower(name))
	h.note("delete windowsservice/%s", name)
	return nil
}
