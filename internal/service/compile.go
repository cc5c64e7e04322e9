package service

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// InvalidError says that a spec cannot be carried out on its host as written.
// Its text names the fields and the way out.
type InvalidError struct{ Problems []string }

func (e *InvalidError) Error() string { return strings.Join(e.Problems, "; ") }

// Content of a file, resolved.
type Content struct {
	Data         []byte
	Confidential bool // it comes from a Secret
}

// Source is everything that a desired state is compiled from.
type Source struct {
	Spec     *v1alpha1.ExternalServiceSpec
	OS       v1alpha1.OperatingSystem
	Owner    machine.Owner
	Contents map[string]Content // by path, for files with contentFrom
	// Environment holds the values of a script's variables with secretKeyRef, by name.
	Environment map[string][]byte
}

// Compile makes the desired state of a spec, or an *InvalidError.
func Compile(source Source) (*Desired, error) {
	c := compiler{source: source, desired: &Desired{
		OS:       source.OS,
		State:    source.Spec.State,
		Adoption: source.Spec.Adoption,
		Owner:    source.Owner,
	}}
	if c.desired.State == "" {
		c.desired.State = v1alpha1.StateRunning
	}
	c.files()
	c.systemd()
	c.windows()
	c.script()
	if len(c.problems) > 0 {
		slices.Sort(c.problems)
		return nil, &InvalidError{Problems: c.problems}
	}
	c.desired.seal()
	return c.desired, nil
}

type compiler struct {
	source   Source
	desired  *Desired
	problems []string
}

func (c *compiler) invalid(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

func (c *compiler) onWindows() bool { return c.source.OS == v1alpha1.Windows }

func (c *compiler) files() {
	seen := map[machine.Subject]bool{}
	for _, spec := range c.source.Spec.Files {
		field := "spec.files[" + spec.Path + "]"
		if !c.path(field, spec.Path) {
			continue
		}
		if subject := fileSubject(spec.Path); seen[subject] {
			c.invalid("%s is listed twice: Windows does not tell upper from lower case in a path", field)
		} else {
			seen[subject] = true
		}
		c.desired.Files = append(c.desired.Files, c.file(field, spec))
	}
}

// path checks the form of a path against the host's operating system.
func (c *compiler) path(field, name string) bool {
	count := len(c.problems)
	switch {
	case c.onWindows() && !isWindowsPath(name):
		c.invalid(`%s: the Host runs Windows; give an absolute path such as C:\Orders\orders.json`, field)
	case c.onWindows() && strings.ContainsAny(name[2:], `/<>:"|?*`):
		c.invalid(`%s: a Windows path must not hold any of / < > : " | ? *`, field)
	case c.onWindows() && badWindowsPart(name):
		c.invalid(`%s: no part of a Windows path may be empty or end in a dot or a blank`, field)
	case !c.onWindows() && !strings.HasPrefix(name, "/"):
		c.invalid("%s: the Host runs Linux; give an absolute path such as /etc/orders.conf", field)
	case !c.onWindows() && path.Clean(name) != name:
		c.invalid("%s: write the path as %s", field, path.Clean(name))
	}
	return len(c.problems) == count
}

func (c *compiler) file(field string, spec v1alpha1.File) File {
	f := File{Path: spec.Path, Owner: spec.Owner, Group: spec.Group, RestartOnChange: spec.RestartOnChange}
	content := c.source.Contents[spec.Path]
	if spec.Content != nil {
		content = Content{Data: []byte(*spec.Content)}
	}
	f.Content, f.Confidential = machine.Secret(content.Data), content.Confidential
	f.SHA256 = digestBytes(content.Data)
	if spec.Source != nil {
		f.SHA256, f.Download = spec.Source.SHA256, c.download(field, spec.Source)
	}
	if c.onWindows() && (spec.Mode != "" || spec.Owner != "" || spec.Group != "") {
		c.invalid("%s: mode, owner and group are for Linux hosts; remove them", field)
	}
	if spec.Mode != "" {
		mode, err := strconv.ParseUint(spec.Mode, 8, 32)
		if err != nil || mode == 0 {
			c.invalid("%s.mode: %q is not a mode that can be set; give one such as \"0640\"", field, spec.Mode)
		}
		f.Mode = uint32(mode)
	}
	return f
}

func (c *compiler) systemd() {
	spec := c.source.Spec.Systemd
	if spec == nil {
		return
	}
	if c.onWindows() {
		c.invalid("spec.systemd needs a Linux host, and this Host runs Windows: use spec.windowsService")
		return
	}
	if spec.Definition != nil && spec.Enabled != nil && *spec.Enabled && !strings.Contains(*spec.Definition, "[Install]") {
		c.invalid("spec.systemd.enabled: the definition has no [Install] section, so it cannot be enabled; add one (WantedBy=multi-user.target) or remove enabled")
	}
	if name, _, _ := strings.Cut(spec.Unit, "."); strings.HasSuffix(name, "@") {
		c.invalid("spec.systemd.unit: %s is a template; name an instance of it, such as %s1%s", spec.Unit, name, strings.TrimPrefix(spec.Unit, name))
	}
	for _, f := range c.source.Spec.Files {
		if f.Path == definitionPath(spec.Unit) {
			c.invalid("spec.files[%s] is the unit file of spec.systemd.unit: give its text in spec.systemd.definition", f.Path)
		}
	}
	c.desired.Systemd = &SystemdUnit{Unit: spec.Unit, Definition: spec.Definition, Enabled: spec.Enabled}
}

func (c *compiler) windows() {
	spec := c.source.Spec.WindowsService
	if spec == nil {
		return
	}
	if !c.onWindows() {
		c.invalid("spec.windowsService needs a Windows host, and this Host runs Linux: use spec.systemd")
		return
	}
	if spec.StartMode == "Disabled" && c.desired.State == v1alpha1.StateRunning {
		c.invalid("spec.windowsService.startMode: a Disabled service cannot be started; choose Manual, or set spec.state to Stopped")
	}
	c.desired.Windows = &WindowsService{
		Name:        spec.Name,
		BinaryPath:  spec.BinaryPath,
		DisplayName: spec.DisplayName,
		Description: spec.Description,
		StartMode:   spec.StartMode,
	}
}
