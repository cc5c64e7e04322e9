package linuxhost

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/test/testbed/network"
)

// unit is the content of networkUnit. Everything that waits for network.target,
// as the SSH server does, starts after it.
const unit = `[Unit]
Description=Static address of the test bed
Wants=network.target
Before=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip link set host0 address %s addrgenmode none up
ExecStart=/bin/ip address replace %s/%d dev host0
ExecStart=/bin/ip route replace default via %s
`

// prepare writes into the machine's file system what makes it this machine.
func (m *Machine) prepare() error {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	gateway := m.options.Network.Address()
	for path, content := range map[string]string{
		"etc/machine-id": hex.EncodeToString(id[:]) + "\n",
		"etc/hostname":   m.options.Name + "\n",
		"etc/hosts":      fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", m.address, m.options.Name),
		// No name server answers there. The refusal is immediate, so a lookup does
		// not hang, and a container runtime finds the file it asks for.
		"etc/resolv.conf": fmt.Sprintf("nameserver %s\n", gateway),
		"etc/systemd/system/" + networkUnit: fmt.Sprintf(unit, network.HardwareAddr(m.address),
			m.address, m.options.Network.Prefix().Bits(), gateway),
		"etc/ssh/sshd_config.d/testbed.conf": "PasswordAuthentication yes\nPubkeyAuthentication yes\n",
	} {
		path = filepath.Join(m.root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("prepare %s: %w", m.options.Name, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("prepare %s: %w", m.options.Name, err)
		}
	}
	if err := m.generateHostKeys(); err != nil {
		return fmt.Errorf("prepare %s: %w", m.options.Name, err)
	}
	return nil
}

// generateHostKeys gives the machine the host keys that a Debian installation
// makes, but for RSA, which takes long and adds nothing here.
func (m *Machine) generateHostKeys() error {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	for name, key := range map[string]any{"ed25519": ed, "ecdsa": ec} {
		block, err := ssh.MarshalPrivateKey(key, m.options.Name)
		if err != nil {
			return err
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			return err
		}
		path := filepath.Join(m.root, "etc/ssh/ssh_host_"+name+"_key")
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
