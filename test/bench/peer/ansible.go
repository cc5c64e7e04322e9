package peer

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

//go:embed playbook.yaml
var playbook []byte

// Ansible with pipelining, one fork for each host, and its usual shared connections.
type Ansible struct {
	// Strategy of the play: linear, which is Ansible's default, or free.
	Strategy string
	// Progress receives the lines of an installation.
	Progress io.Writer

	program program
	hosts   int
}

// Name implements Peer.
func (a *Ansible) Name() string { return "ansible" }

// Version implements Peer.
func (a *Ansible) Version() string { return a.program.version }

// Prepare implements Peer.
func (a *Ansible) Prepare(ctx context.Context, bed *target.Bed) error {
	if err := cache.Packages(ctx, a.Progress, "ansible", "openssh-client"); err != nil {
		return err
	}
	a.hosts = len(bed.Hosts)
	a.program = program{dir: filepath.Join(bed.Dir, "ansible"), argv: []string{"ansible-playbook", "playbook.yaml"}}
	var err error
	if a.program.version, err = installed(ctx, "ansible-core"); err != nil {
		return err
	}
	if err := os.MkdirAll(a.shared(), 0o700); err != nil {
		return err
	}
	inventory, err := inventory(bed)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"playbook.yaml": playbook, "inventory.json": inventory, "ansible.cfg": []byte(a.configuration(bed)),
	} {
		if err := os.WriteFile(filepath.Join(a.program.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// shared is where the sockets of shared connections are.
func (a *Ansible) shared() string { return filepath.Join(a.program.dir, "cp") }

func (a *Ansible) configuration(bed *target.Bed) string {
	return fmt.Sprintf(`[defaults]
inventory = inventory.json
forks = %d
strategy = %s
host_key_checking = True
interpreter_python = /usr/bin/python3
local_tmp = %s/local
remote_tmp = %s/remote
[ssh_connection]
pipelining = True
control_path_dir = %s
ssh_common_args = -F none -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=none -o IdentitiesOnly=yes
`, len(bed.Hosts), a.Strategy, a.program.dir, a.program.dir, a.shared(), bed.KnownHosts)
}

// inventory in Ansible's YAML format, of which JSON is a part.
func inventory(bed *target.Bed) ([]byte, error) {
	hosts := map[string]any{}
	for _, h := range bed.Hosts {
		files, scripts := h.Files(), h.Scripts()
		hosts[h.Name] = map[string]any{
			"ansible_host": h.Address, "ansible_port": h.Port, "ansible_user": bed.User,
			"ansible_ssh_private_key_file": bed.KeyFile,
			"configuration":                files[0], "limits": files[1],
			"component": scripts[0].CheckThenChange(), "service": scripts[1].CheckThenChange(),
		}
	}
	return json.Marshal(map[string]any{"all": map[string]any{"hosts": hosts}})
}

// recap is a host's line at the end of what ansible-playbook prints.
var recap = regexp.MustCompile(`(?m)^host-\d+ +: ok=(\d+) +changed=(\d+) +unreachable=0 +failed=0 `)

// Pass implements Peer.
func (a *Ansible) Pass(ctx context.Context) (Outcome, error) {
	outcome, output, err := a.program.run(ctx)
	if err != nil {
		return outcome, err
	}
	lines := recap.FindAllSubmatch(output, -1)
	if len(lines) != a.hosts {
		return outcome, fmt.Errorf("ansible: %d of %d hosts are through", len(lines), a.hosts)
	}
	for _, line := range lines {
		ok, okErr := strconv.Atoi(string(line[1]))
		changed, changedErr := strconv.Atoi(string(line[2]))
		if err := errors.Join(okErr, changedErr); err != nil {
			return outcome, err
		}
		outcome.Changed += changed
		outcome.Unchanged += ok - changed
	}
	return outcome, nil
}

// Rest implements Peer: it ends the shared connections.
func (a *Ansible) Rest(ctx context.Context) error {
	sockets, err := filepath.Glob(filepath.Join(a.shared(), "*"))
	if err != nil {
		return err
	}
	for _, socket := range sockets {
		// One that has ended by itself meanwhile is as well.
		_ = exec.CommandContext(ctx, "ssh", "-F", "none", "-S", socket, "-O", "exit", "any").Run()
	}
	return nil
}
