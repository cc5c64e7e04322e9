package posix

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

var update = flag.Bool("update", false, "write the golden files")

// TestCompiledJobs holds the exact bytes that a host runs.
func TestCompiledJobs(t *testing.T) {
	service := machine.Service{Manager: machine.Systemd, Name: "ledger.service"}
	for name, job := range map[string]machine.Job{
		"file": {
			ID: "u-1-files-1", Epoch: 42, Timeout: 90 * time.Second,
			Steps: []machine.Step{
				machine.Claim{Subject: "file//etc/it's.conf", Owner: owner, Adopted: true},
				machine.PutFile{
					Path: "/etc/it's.conf", Mode: 0o640, Owner: "root", Group: "ledger",
					Content: machine.Secret(strings.Repeat("password = hunter2\n", 5)),
				},
				machine.PutFile{Path: "/etc/empty"},
				machine.RemoveFile{Path: "/etc/old"},
			},
			Secrets: []machine.Secret{machine.Secret("hunter2"), machine.Secret("one'\nlonger line\nabc\n")},
		},
		"script": {
			ID: "u-1-run-1", Epoch: 7, Timeout: 10 * time.Minute,
			Steps: []machine.Step{
				machine.PlaceFile{Path: "/opt/it's/tool", SHA256: strings.Repeat("ab", 32), Size: 5, Mode: 0o755},
				machine.FetchFile{Path: "/opt/app.tar", URL: "https://files.example/app.tar?a=b&c='d", SHA256: strings.Repeat("cd", 32), MaxSize: 1 << 20},
				machine.RunScript{
					Text:        machine.Secret("set -e\ncat <<'EOF' >/tmp/x\nit's\nEOF"),
					Environment: []machine.Variable{{Name: "MODE", Value: machine.Secret("it's prod")}},
				},
				machine.RunScript{Interpreter: "/usr/bin/python3 -", Text: machine.Secret("print(1)\n")},
			},
		},
		"service": {
			ID: "u-1-service-1", Epoch: 9223372036854775807, Timeout: 1500 * time.Millisecond,
			Steps: []machine.Step{
				machine.ReloadUnits{},
				machine.EnableUnit{Unit: service.Name},
				machine.StartService{Service: service, Hash: "h1"},
				machine.RestartService{Service: service, Hash: "h2"},
				machine.RecordStart{Service: service, Hash: "h3"},
				machine.StopService{Service: service},
				machine.DisableUnit{Unit: service.Name},
				machine.Release{Subject: service.Subject(), Owner: owner},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			compiled, err := New(nil, Options{}).compileJob(job)
			require.NoError(t, err)
			file := filepath.Join("testdata", name+".sh")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(compiled), 0o600))
			}
			golden, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(golden), compiled)
		})
	}
}
