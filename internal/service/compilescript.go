package service

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	// maxValue of a variable: what cmd.exe takes, and what the API takes of a plain one.
	maxValue = 8192
	// maxEnvironment is what Windows allows a process, and what is worth recording for a removal.
	maxEnvironment = 32 << 10

	defaultObserveTimeout = 5 * time.Second
)

func (c *compiler) script() {
	spec := c.source.Spec.Script
	if spec == nil {
		return
	}
	if c.desired.State != v1alpha1.StateRunning {
		c.invalid("spec.state: a script has no service that could be %s; remove spec.state, and have spec.script.observe look for what you want", c.desired.State)
	}
	for _, text := range [][2]string{{"observe", spec.Observe}, {"apply", spec.Apply}, {"remove", spec.Remove}} {
		if strings.Contains(text[1], "\x00") {
			c.invalid("spec.script.%s: a script must not hold a NUL character", text[0])
		}
	}
	c.interpreter(spec.Interpreter)
	c.awaitsApply(spec)
	script := &Script{
		Observe: spec.Observe, Apply: spec.Apply, Remove: spec.Remove, Interpreter: spec.Interpreter,
		Timeout: defaultObserveTimeout, Idempotent: spec.Idempotent, declared: spec.Environment,
	}
	if timeout := spec.ObserveTimeout; timeout != nil && timeout.Duration > 0 {
		script.Timeout = timeout.Duration
	}
	c.environment(script, spec.Environment)
	script.EnvironmentSHA256 = digestEnvironment(script.Environment)
	c.desired.Script = script
}

func (c *compiler) interpreter(name string) {
	switch {
	case name == "":
	case c.onWindows() && !isWindowsPath(name):
		c.invalid(`spec.script.interpreter: the Host runs Windows; give an absolute path such as C:\Windows\System32\cmd.exe, or remove it`)
	case !c.onWindows() && !strings.HasPrefix(name, "/"):
		c.invalid("spec.script.interpreter: the Host runs Linux; give an absolute path such as /bin/bash, or remove it")
	}
}

// awaitsApply: a file that should have something done about it needs somebody who does it.
func (c *compiler) awaitsApply(spec *v1alpha1.Script) {
	if spec.Apply != "" {
		return
	}
	for _, f := range c.source.Spec.Files {
		if f.RestartOnChange {
			c.invalid("spec.files[%s].restartOnChange: there is no spec.script.apply to run when the file changes; give one, or remove restartOnChange", f.Path)
		}
	}
}

func (c *compiler) environment(script *Script, declared []v1alpha1.EnvironmentVariable) {
	seen := map[string]bool{}
	size := 0
	for _, d := range declared {
		field := "spec.script.environment[" + d.Name + "]"
		name := d.Name
		if c.onWindows() {
			name = strings.ToUpper(name)
		}
		if seen[name] {
			c.invalid("%s is listed twice%s", field, c.caseless())
		}
		seen[name] = true
		var value []byte
		switch {
		case d.SecretKeyRef != nil:
			value = c.source.Environment[d.Name]
			script.secrets = append(script.secrets, secretsOf(machine.Secret(value))...)
			field += fmt.Sprintf(" (key %q of Secret %s)", d.SecretKeyRef.Key, d.SecretKeyRef.Name)
		case d.Value != nil:
			value = []byte(*d.Value)
		}
		if problem := checkValue(value); problem != "" {
			c.invalid("%s: %s", field, problem)
		}
		size += len(d.Name) + len(value) + 2
		script.Environment = append(script.Environment, machine.Variable{Name: d.Name, Value: value})
	}
	if size > maxEnvironment {
		c.invalid("spec.script.environment: %d bytes in all, and at most %d can be passed; put large values into spec.files", size, maxEnvironment)
	}
}

func (c *compiler) caseless() string {
	if c.onWindows() {
		return ": Windows does not tell upper from lower case in the name of a variable"
	}
	return ""
}

// checkValue says why a value cannot be that of a variable; empty: it can.
func checkValue(value []byte) string {
	switch {
	case strings.Contains(string(value), "\x00"):
		return "the value holds a NUL character, which no environment can"
	case len(value) > maxValue:
		return fmt.Sprintf("the value has %d bytes, and at most %d can be passed; put it into spec.files", len(value), maxValue)
	}
	return ""
}

// download checks what is to be downloaded.
func (c *compiler) download(field string, spec *v1alpha1.FileSource) *Download {
	d := &Download{URL: spec.URL, MaxSize: defaultMaxSize, ByOperator: spec.Via == viaOperator}
	if spec.MaxSize != nil {
		d.MaxSize = spec.MaxSize.Value()
	}
	if d.MaxSize <= 0 {
		c.invalid("%s.source.maxSize: %s admits no file; give a size such as 100Mi", field, spec.MaxSize.String())
	}
	return d
}
