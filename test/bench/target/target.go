package target

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/sshd"
)

// Host is an OpenSSH server on loopback, and a directory of its own.
type Host struct {
	Name string
	Dir  string
	// StateDir is where Isthmus keeps its records of this host.
	StateDir string
	Address  string
	Port     int
	HostKey  string // "ssh-ed25519 AAAA..."
	server   *sshd.Server
}

// Freeze has the host accept connections and never answer; Thaw undoes it.
func (h *Host) Freeze() error { return h.server.Freeze() }

// Thaw undoes Freeze.
func (h *Host) Thaw() error { return h.server.Thaw() }

// Bed is hosts with one user, who has one key.
type Bed struct {
	Dir   string
	Hosts []*Host
	// User can log in with PrivateKey, which is also in the file KeyFile.
	User, KeyFile string
	PrivateKey    []byte
	// KnownHosts is a file with the keys of all hosts.
	KnownHosts string
	// Shell that sessions get.
	Shell string
}

// Start starts hosts below dir.
func Start(ctx context.Context, j *janitor.Janitor, dir string, count int) (*Bed, error) {
	b := &Bed{Dir: dir, KeyFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts")}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("start the hosts: %w", err)
	}
	b.User, b.Shell = me.Username, "the user's own"
	authorized, err := b.makeKey()
	if err != nil {
		return nil, fmt.Errorf("start the hosts: %w", err)
	}
	options := sshd.Options{Dir: filepath.Join(dir, "servers"), Janitor: j, AuthorizedKeys: [][]byte{authorized}}
	if os.Geteuid() == 0 {
		// A login shell with a long start-up would be measured in place of the tools.
		options.ForceShell, b.Shell = "/bin/sh", "/bin/sh"
	}
	if err := os.MkdirAll(options.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the hosts: %w", err)
	}
	servers, err := sshd.StartMany(ctx, count, options)
	if err != nil {
		return nil, fmt.Errorf("start the hosts: %w", err)
	}
	for i, server := range servers {
		b.Hosts = append(b.Hosts, b.host(i, server))
	}
	return b, errors.Join(b.writeKnownHosts(), b.Wipe())
}

func (b *Bed) host(i int, server *sshd.Server) *Host {
	name := fmt.Sprintf("host-%03d", i)
	return &Host{
		Name: name, Dir: filepath.Join(b.Dir, "hosts", name), StateDir: filepath.Join(b.Dir, "hosts", name, "isthmus"),
		Address: server.AddrPort().Addr().String(), Port: int(server.AddrPort().Port()),
		HostKey: server.HostKeys()[0], server: server,
	}
}

// Stop ends the services, and the servers with their sessions.
func (b *Bed) Stop(ctx context.Context) error {
	err := b.Wipe()
	servers := make([]*sshd.Server, 0, len(b.Hosts))
	for _, h := range b.Hosts {
		servers = append(servers, h.server)
	}
	return errors.Join(err, sshd.StopAll(ctx, servers))
}

func (b *Bed) makeKey() (authorized []byte, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "bench")
	if err != nil {
		return nil, err
	}
	shown, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	b.PrivateKey = pem.EncodeToMemory(block)
	return ssh.MarshalAuthorizedKey(shown), os.WriteFile(b.KeyFile, b.PrivateKey, 0o600)
}

func (b *Bed) writeKnownHosts() error {
	file, err := os.Create(b.KnownHosts)
	if err != nil {
		return err
	}
	for _, h := range b.Hosts {
		if _, err := fmt.Fprintf(file, "[%s]:%d %s\n", h.Address, h.Port, h.HostKey); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}
