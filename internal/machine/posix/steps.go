package posix

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// compiledSteps is one shell function for each step, and the scripts that they need.
type compiledSteps struct {
	shell   string
	text    script
	files   bool
	marks   bool
	units   bool
	scripts bool
	fetches bool
	// placed counts how often staged content will still be taken.
	placed map[string]int
}

func (c *compiledSteps) fragments() []string {
	names := []string{"steps"}
	if c.files {
		names = append(names, "file")
	}
	if c.fetches {
		names = append(names, "fetch")
	}
	if c.scripts {
		names = append(names, "home")
	}
	if c.marks {
		names = append(names, "mark")
	}
	if c.units {
		names = append(names, "unit")
	}
	return names
}

func (m *Machine) compileSteps(steps []machine.Step) (*compiledSteps, error) {
	c := &compiledSteps{shell: m.shell, placed: map[string]int{}}
	for _, step := range steps {
		if place, is := step.(machine.PlaceFile); is {
			c.placed[place.SHA256]++
		}
	}
	for i, step := range steps {
		c.text.line("step_%d() {", i)
		if err := c.compile(step); err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		c.text.line("}")
	}
	return c, nil
}

func (c *compiledSteps) compile(step machine.Step) error {
	switch s := step.(type) {
	case machine.PutFile:
		return c.putFile(s)
	case machine.PlaceFile:
		return c.placeFile(s)
	case machine.FetchFile:
		return c.fetchFile(s)
	case machine.RunScript:
		return c.runScript(s)
	case machine.RemoveFile:
		return c.removeFile(s)
	case machine.Claim:
		return c.claim(s)
	case machine.Release:
		return c.release(s)
	case machine.ReloadUnits:
		c.text.line("systemctl daemon-reload || die 'systemctl daemon-reload failed'")
		return nil
	case machine.EnableUnit:
		return c.unitFile("enable", s.Unit)
	case machine.DisableUnit:
		return c.unitFile("disable", s.Unit)
	case machine.StartService:
		return c.start("start_service", s.Service, s.Hash)
	case machine.RestartService:
		return c.start("restart_service", s.Service, s.Hash)
	case machine.RecordStart:
		return c.start("record_start", s.Service, s.Hash)
	case machine.StopService:
		return c.stop(s.Service)
	default:
		return unsupported(step)
	}
}

func (c *compiledSteps) unitFile(verb, name string) error {
	if err := validUnit(name); err != nil {
		return fmt.Errorf("%s unit: %w", verb, err)
	}
	c.text.line("systemctl --quiet %s -- %s || die 'systemctl %s failed'", verb, quote(name), verb)
	return nil
}

// startHash is what a mark can hold on one line.
var startHash = regexp.MustCompile(`^[A-Za-z0-9:._=+/-]{1,128}$`)

func (c *compiledSteps) start(function string, service machine.Service, hash string) error {
	if err := validService(service); err != nil {
		return err
	}
	if !startHash.MatchString(hash) {
		return errors.New("the hash of a start is 1 to 128 letters, digits and :._=+/-")
	}
	c.marks, c.units = true, true
	subject := service.Subject()
	c.text.line("%s %s %s %s %s", function, quote(service.Name), markFile(subject), quote(string(subject)), quote(hash))
	return nil
}

func (c *compiledSteps) stop(service machine.Service) error {
	if err := validService(service); err != nil {
		return err
	}
	// Stopping shares the reading of units with starting, which writes marks.
	c.marks, c.units = true, true
	c.text.line("stop_service %s", quote(service.Name))
	return nil
}

func validService(service machine.Service) error {
	if service.Manager != machine.Systemd {
		return fmt.Errorf("services of %q are not supported on a POSIX host", string(service.Manager))
	}
	return validUnit(service.Name)
}

func (c *compiledSteps) claim(s machine.Claim) error {
	if s.Owner.Cluster == "" || s.Owner.UID == "" {
		return errors.New("claim: the owner has no UID or no cluster")
	}
	if !oneLine(string(s.Subject), s.Owner.Cluster, s.Owner.UID, s.Owner.Object) {
		return errors.New("claim: subject and owner are one line each")
	}
	c.marks = true
	c.text.line("claim %s %s %s %s %s %t", markFile(s.Subject), quote(string(s.Subject)),
		quote(s.Owner.Cluster), quote(s.Owner.UID), quote(s.Owner.Object), s.Adopted)
	return nil
}

func (c *compiledSteps) release(s machine.Release) error {
	if !oneLine(string(s.Subject), s.Owner.Cluster, s.Owner.UID) {
		return errors.New("release: subject and owner are one line each")
	}
	c.marks = true
	c.text.line("release %s %s %s", markFile(s.Subject), quote(s.Owner.Cluster), quote(s.Owner.UID))
	return nil
}

func oneLine(texts ...string) bool {
	for _, text := range texts {
		if strings.ContainsAny(text, "\n\x00") {
			return false
		}
	}
	return true
}

// markName is the name of a mark's file: a subject can hold any character.
func markName(subject machine.Subject) string {
	sum := sha256.Sum256([]byte(subject))
	return hex.EncodeToString(sum[:])
}

func markFile(subject machine.Subject) string { return `"$S/marks/` + markName(subject) + `"` }
