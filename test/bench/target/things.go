package target

import (
	"fmt"
	"path/filepath"
	"strings"
)

// File that is to be on a host.
type File struct {
	Path, Content string
	Mode          string // octal; empty: not managed
}

// Script looks after something: Check exits with 0 if it is as it should be and
// with 1 if it is not; Change puts it right; Remove undoes that.
type Script struct {
	Name, Check, Change, Remove string
}

// Component and Service are the names of the scripts.
const (
	Component = "component"
	Service   = "service"
)

// release of the component that is to be there.
const release = "2.7.1"

// runs marks the process of the service: nothing else sleeps for so long.
const runs = "86399"

// startService returns when the service is in a session of its own: until then it
// would end with whoever runs this script.
const startService = `(mkdir -p %[1]s && rm -f %[2]s || exit 2
setsid sh -c 'echo $$ >%[2]s.new && mv %[2]s.new %[2]s && exec sleep %[3]s' </dev/null >/dev/null 2>&1 &
i=0
until [ -s %[2]s ]; do i=$((i+1)); [ $i -le 1000 ] || exit 1; sleep 0.01; done)`

// Files of a host.
func (h *Host) Files() []File {
	return []File{
		{Path: h.path("etc/app.conf"), Content: h.configuration()},
		{Path: h.path("etc/limits.conf"), Content: "open_files = 4096\nowner = " + h.Name + "\n", Mode: "0640"},
	}
}

// configuration is about a kilobyte, and different on every host.
func (h *Host) configuration() string {
	var text strings.Builder
	fmt.Fprintf(&text, "# The application on %s\n", h.Name)
	for i := range 24 {
		fmt.Fprintf(&text, "setting_%02d = \"value %d of %s\"\n", i, i*i, h.Name)
	}
	return text.String()
}

// Scripts of a host.
func (h *Host) Scripts() []Script {
	installed, pid := h.path("component/release"), h.path("run/service.pid")
	return []Script{{
		Name:   Component,
		Check:  fmt.Sprintf(`[ "$(cat %s 2>/dev/null)" = %s ]`, installed, release),
		Change: fmt.Sprintf("mkdir -p %s && echo %s >%s.new && mv %s.new %s", filepath.Dir(installed), release, installed, installed, installed),
		Remove: "rm -f " + installed,
	}, {
		Name:   Service,
		Check:  fmt.Sprintf(`pid=$(cat %s 2>/dev/null) && kill -0 "$pid" 2>/dev/null`, pid),
		Change: fmt.Sprintf(startService, filepath.Dir(pid), pid, runs),
		Remove: fmt.Sprintf(`pid=$(cat %s 2>/dev/null) && kill "$pid" && rm -f %s`, pid, pid),
	}}
}

// CheckThenChange is a script as one command, for sides that have no check of
// their own: it prints "changed" if it had to change something.
func (s Script) CheckThenChange() string {
	return fmt.Sprintf("if %s; then echo unchanged; else { %s\n} && echo changed; fi", s.Check, s.Change)
}

func (h *Host) path(name string) string { return filepath.Join(h.Dir, name) }
