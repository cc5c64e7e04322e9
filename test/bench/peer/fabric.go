package peer

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

//go:embed fabric.py
var fabricProgram []byte

// Fabric runs a program with one thread for each host.
type Fabric struct {
	// Progress receives the lines of an installation.
	Progress io.Writer

	program program
}

// Name implements Peer.
func (f *Fabric) Name() string { return "fabric" }

// Version implements Peer.
func (f *Fabric) Version() string { return f.program.version }

// Prepare implements Peer.
func (f *Fabric) Prepare(ctx context.Context, bed *target.Bed) error {
	if err := cache.Packages(ctx, f.Progress, "python3-fabric"); err != nil {
		return err
	}
	f.program = program{dir: filepath.Join(bed.Dir, "fabric"), argv: []string{"/usr/bin/python3", "fabric-pass.py", "work.json"}}
	var err error
	if f.program.version, err = installed(ctx, "python3-fabric"); err != nil {
		return err
	}
	work, err := fabricWork(bed)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.program.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.program.dir, "fabric-pass.py"), fabricProgram, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.program.dir, "work.json"), work, 0o600)
}

func fabricWork(bed *target.Bed) ([]byte, error) {
	var hosts []map[string]any
	for _, h := range bed.Hosts {
		var scripts []string
		for _, script := range h.Scripts() {
			scripts = append(scripts, script.CheckThenChange())
		}
		hosts = append(hosts, map[string]any{
			"address": h.Address, "port": h.Port, "files": h.Files(), "scripts": scripts,
		})
	}
	return json.Marshal(map[string]any{"user": bed.User, "key": bed.KeyFile, "known_hosts": bed.KnownHosts, "hosts": hosts})
}

// Pass implements Peer.
func (f *Fabric) Pass(ctx context.Context) (Outcome, error) {
	outcome, output, err := f.program.run(ctx)
	if err != nil {
		return outcome, err
	}
	said := struct{ Changed, Unchanged int }{}
	if err := json.Unmarshal(output, &said); err != nil {
		return outcome, fmt.Errorf("fabric: %w\n%s", err, output)
	}
	outcome.Changed, outcome.Unchanged = said.Changed, said.Unchanged
	return outcome, nil
}

// Rest implements Peer: a Fabric program leaves nothing.
func (f *Fabric) Rest(context.Context) error { return nil }
