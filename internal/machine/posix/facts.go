package posix

import (
	"context"
	"strconv"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

const maxFactsAnswer = 16 << 10

// Facts implements machine.Machine.
func (m *Machine) Facts(ctx context.Context) (machine.Facts, error) {
	r := m.newRequest()
	r.use("facts")
	answer, _, err := m.send(ctx, "ask for facts", r, maxFactsAnswer)
	if err != nil {
		return machine.Facts{}, err
	}
	return parseFacts(answer), nil
}

func parseFacts(answer string) machine.Facts {
	var facts machine.Facts
	for line := range strings.Lines(answer) {
		key, value, _ := strings.Cut(excerpt(line), " ")
		switch key {
		case "boot":
			facts.BootID = word(value)
		case "init":
			facts.InitSystem = value
		case "hostname":
			facts.Hostname = value
		case "machine":
			facts.Architecture = architecture(value)
		case "kernel":
			facts.Kernel = value
		case "cpus":
			facts.CPUs, _ = strconv.Atoi(value)
		case "memory":
			kibibytes, _ := strconv.ParseInt(value, 10, 64)
			facts.MemoryBytes = kibibytes << 10
		case "os":
			setRelease(&facts, value)
		}
	}
	return facts
}

// setRelease reads a line of os-release(5).
func setRelease(facts *machine.Facts, line string) {
	key, value, _ := strings.Cut(line, "=")
	value = strings.Trim(value, `"'`)
	switch key {
	case "PRETTY_NAME":
		facts.OSName = value
	case "VERSION_ID":
		facts.OSVersion = value
	}
}

// architecture turns the machine's name in uname(2) into Go's.
func architecture(machineName string) string {
	switch machineName {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386", "i486", "i586", "i686":
		return "386"
	case "armv6l", "armv7l", "armv8l":
		return "arm"
	default:
		return machineName // ppc64le, s390x, riscv64 are named alike.
	}
}
