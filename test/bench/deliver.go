package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/posix"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

// parcel is a file to deliver, new for each run.
type parcel struct {
	bed     *target.Bed
	content []byte
	digest  string
	path    string // of a copy on this machine
}

// deliver measures one large file to one host, each side with a connection of its own.
func (b *bench) deliver(ctx context.Context) (err error) {
	if err := cache.Packages(ctx, b, "openssh-client"); err != nil {
		return err
	}
	dir, err := b.part("deliver")
	if err != nil {
		return err
	}
	bed, err := target.Start(ctx, b.janitor, dir, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Stop(context.WithoutCancel(ctx))) }()
	sides := []struct {
		name    string
		deliver func(context.Context, *parcel) (usage.Usage, error)
	}{{"isthmus", stage}, {"scp", scp}, {"sftp", sftp}}
	measured := map[string]*series{}
	for run := range b.runsOf(0) {
		p, err := newParcel(bed, b.size)
		if err != nil {
			return err
		}
		for _, side := range sides {
			if measured[side.name] == nil {
				measured[side.name] = &series{}
			}
			began := time.Now()
			used, err := side.deliver(ctx, p)
			wall := time.Since(began)
			if err == nil {
				err = p.verify()
			}
			if err = errors.Join(err, bed.Wipe()); err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			measured[side.name].add(wall, used)
			b.say("  run %d %-8s %8.2f s", run+1, side.name, wall.Seconds())
		}
	}
	for _, side := range sides {
		s := measured[side.name]
		rate := field{"mib_per_s", float64(b.size) / s.wall.Median()}
		result("deliver."+side.name, append([]field{{"mib", b.size}, rate}, s.fields()...)...)
		if side.name != "isthmus" {
			result("ratio.deliver."+side.name, field{"isthmus_of_its_rate", s.wall.Ratio(measured["isthmus"].wall)})
		}
	}
	return nil
}

func newParcel(bed *target.Bed, size int) (*parcel, error) {
	p := &parcel{bed: bed, content: make([]byte, size<<20), path: filepath.Join(bed.Dir, "parcel")}
	if _, err := rand.Read(p.content); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(p.content)
	p.digest = hex.EncodeToString(sum[:])
	return p, os.WriteFile(p.path, p.content, 0o600)
}

// verify finds the content below the host's directory, wherever a side puts it.
func (p *parcel) verify() error {
	found := false
	err := filepath.WalkDir(p.bed.Hosts[0].Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Equal(content, p.content)
		return err
	})
	if err == nil && !found {
		err = errors.New("the content is not on the host")
	}
	return err
}

// stage has the operator's transport and machine put the content on the host, digest verified there.
func stage(ctx context.Context, p *parcel) (used usage.Usage, err error) {
	h, before := p.bed.Hosts[0], usage.Self()
	client, err := ssh.Dial(ctx, ssh.Config{
		Address: net.JoinHostPort(h.Address, strconv.Itoa(h.Port)), User: p.bed.User,
		HostKeys: []string{h.HostKey}, PrivateKey: p.bed.PrivateKey,
	})
	if err != nil {
		return used, err
	}
	host := posix.New(client, posix.Options{StateDir: h.StateDir})
	defer func() { err = errors.Join(err, host.Close()) }()
	err = host.Stage(ctx, machine.Blob{
		SHA256: p.digest, Size: int64(len(p.content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(p.content)), nil },
	})
	used.CPU = usage.Self() - before
	return used, err
}

// options of OpenSSH's clients: this key, this host key, and nobody's configuration.
func (p *parcel) options() []string {
	return []string{"-F", "none", "-i", p.bed.KeyFile, "-P", strconv.Itoa(p.bed.Hosts[0].Port), "-q",
		"-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + p.bed.KnownHosts, "-o", "GlobalKnownHostsFile=none"}
}

func (p *parcel) run(cmd *exec.Cmd) (usage.Usage, error) {
	if out, err := cmd.CombinedOutput(); err != nil {
		return usage.Usage{}, fmt.Errorf("%w\n%s", err, out)
	}
	return usage.Of(cmd), nil
}

func scp(ctx context.Context, p *parcel) (usage.Usage, error) {
	h := p.bed.Hosts[0]
	to := fmt.Sprintf("%s@%s:%s/parcel", p.bed.User, h.Address, h.Dir)
	return p.run(exec.CommandContext(ctx, "scp", append(p.options(), p.path, to)...))
}

func sftp(ctx context.Context, p *parcel) (usage.Usage, error) {
	h := p.bed.Hosts[0]
	cmd := exec.CommandContext(ctx, "sftp", append(p.options(), "-b", "-", p.bed.User+"@"+h.Address)...)
	cmd.Stdin = bytes.NewBufferString(fmt.Sprintf("put %s %s/parcel\n", p.path, h.Dir))
	return p.run(cmd)
}
