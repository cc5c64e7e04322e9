package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

func (s *Server) file(name string) string { return filepath.Join(s.options.Dir, name) }

// writeFiles writes all but the configuration, which names the port.
func (s *Server) writeFiles() error {
	if err := s.generateHostKey(); err != nil {
		return err
	}
	if err := os.WriteFile(s.file("authorized_keys"), nil, 0o600); err != nil {
		return err
	}
	for _, key := range s.options.AuthorizedKeys {
		if err := s.Authorize(key); err != nil {
			return err
		}
	}
	if s.options.ForceShell == "" {
		return nil
	}
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	forced, err := withShell(string(users), s.user.Username, s.options.ForceShell)
	if err != nil {
		return err
	}
	return os.WriteFile(s.file("passwd"), []byte(forced), 0o644)
}

// withShell sets the seventh field of the user's line (passwd(5)).
func withShell(passwd, user, shell string) (string, error) {
	lines := strings.SplitAfter(passwd, "\n")
	for i, line := range lines {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) == 7 && fields[0] == user {
			fields[6] = shell
			lines[i] = strings.Join(fields, ":") + "\n"
			return strings.Join(lines, ""), nil
		}
	}
	return "", fmt.Errorf("user %s is not in /etc/passwd", user)
}

// Authorize adds a line of authorized_keys. It is valid for the next login.
func (s *Server) Authorize(publicKey []byte) error {
	file, err := os.OpenFile(s.file("authorized_keys"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("authorize a key: %w", err)
	}
	_, err = file.WriteString(strings.TrimSpace(string(publicKey)) + "\n")
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("authorize a key: %w", err)
	}
	return nil
}

func (s *Server) generateHostKey() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file("host_key"), pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostKey = key
	return nil
}

// certify writes the certificate of the host key, if there is to be one.
func (s *Server) certify() error {
	if s.options.Certify == nil {
		return nil
	}
	s.mu.Lock()
	key := s.hostKey
	s.mu.Unlock()
	certificate, err := s.options.Certify(key, s.addr)
	if err != nil {
		return fmt.Errorf("certify the host key: %w", err)
	}
	return os.WriteFile(s.file("host_key-cert.pub"), ssh.MarshalAuthorizedKey(certificate), 0o600)
}

func (s *Server) writeConfig() error {
	if err := s.certify(); err != nil {
		return err
	}
	lines := append([]string(nil), s.options.Config...)
	if s.options.Certify != nil {
		lines = append(lines, "HostCertificate "+s.file("host_key-cert.pub"))
	}
	lines = append(lines,
		"ListenAddress "+s.addr.String(),
		"HostKey "+s.file("host_key"),
		"AuthorizedKeysFile "+s.file("authorized_keys"),
		"PidFile none",
		"LogLevel INFO",
		// The directories above are the tests', and may be writable by others.
		"StrictModes no",
		"UsePAM no",
		"PermitRootLogin yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"Subsystem sftp internal-sftp",
	)
	if err := os.WriteFile(s.file("sshd_config"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// freePort finds a port of loopback that nobody listens on.
func freePort() (netip.AddrPort, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("find a free port: %w", err)
	}
	addr := listener.Addr().(*net.TCPAddr).AddrPort()
	if err := listener.Close(); err != nil {
		return netip.AddrPort{}, fmt.Errorf("find a free port: %w", err)
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

func groupName() string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // crypto/rand.Read never fails
	return hex.EncodeToString(random[:])
}
