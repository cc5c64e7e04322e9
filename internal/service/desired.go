package service

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// Desired is the compiled desired state of one ExternalService: the spec with
// its contents resolved, checked against the host's operating system.
type Desired struct {
	OS      v1alpha1.OperatingSystem
	Files   []File
	Systemd *SystemdUnit
	Windows *WindowsService
	Script  *Script `json:",omitempty"`
	State   v1alpha1.ServiceState

	// Adoption and Owner say how it is put in place; they are no part of the state.
	Adoption v1alpha1.Adoption `json:"-"`
	Owner    machine.Owner     `json:"-"`

	// Digest of the desired state, contents included: 64 hex digits.
	Digest string `json:"-"`
	// StartHash is the digest of what the service must have been started with:
	// definition, command line, and the contents of files that restart it.
	StartHash string `json:"-"`
}

// File is a file with its content.
type File struct {
	Path            string
	Content         machine.Secret
	SHA256          string
	Confidential    bool // the content comes from a Secret
	Mode            uint32
	Owner           string
	Group           string
	RestartOnChange bool
	Download        *Download `json:",omitempty"` // in place of Content
}

// Download is content that is fetched when the host does not have it.
type Download struct {
	URL        string
	MaxSize    int64
	ByOperator bool // or else by the host itself
}

const (
	viaOperator    = "Operator"
	defaultMaxSize = 1 << 30
)

// SystemdUnit is the desired state of a systemd unit. Nil fields are not managed.
type SystemdUnit struct {
	Unit       string
	Definition *string
	Enabled    *bool
}

// WindowsService is the desired state of a Windows service. Nil and, for
// StartMode, empty fields are not managed.
type WindowsService struct {
	Name        string
	BinaryPath  *string
	DisplayName *string
	Description *string
	StartMode   string
}

// seal computes the digests of a compiled state.
func (d *Desired) seal() {
	d.Digest = digestOf(d)
	started := struct {
		Definition  *string
		CommandLine *[2]string
		Files       [][2]string
	}{}
	if d.Systemd != nil {
		started.Definition = d.Systemd.Definition
	}
	if d.Windows != nil && d.Windows.BinaryPath != nil {
		executable, arguments := program(*d.Windows.BinaryPath)
		started.CommandLine = &[2]string{strings.ToLower(executable), arguments}
	}
	for _, f := range d.Files {
		if f.RestartOnChange {
			started.Files = append(started.Files, [2]string{f.Path, f.SHA256})
		}
	}
	d.StartHash = digestOf(started)
}

// DigestSteps identifies what a list of steps does. Contents take part by their digests.
func DigestSteps(steps []machine.Step) string {
	type named struct {
		Kind string
		Step machine.Step
	}
	all := make([]named, 0, len(steps))
	for _, s := range steps {
		all = append(all, named{Kind: reflect.TypeOf(s).Name(), Step: s})
	}
	return digestOf(all)
}

// digestOf hashes the JSON form of plain data; secrets print as a constant there.
func digestOf(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err)) // only plain data gets here
	}
	return digestBytes(data)
}

func digestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
