package linuxhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SudoMode is what a user may do with sudo(8).
type SudoMode string

// The modes of AllowSudo.
const (
	NoPassword   SudoMode = "NoPassword"
	WithPassword SudoMode = "WithPassword"
	Denied       SudoMode = "Denied"
)

// Authorize lets the owner of a public key (a line of authorized_keys) log in as
// user, who is created if missing, with /bin/sh as shell.
func (m *Machine) Authorize(ctx context.Context, user string, publicKey []byte) error {
	if err := m.ensureUser(ctx, user); err != nil {
		return err
	}
	const script = `home=$(getent passwd "$1" | cut -d: -f6) && group=$(id -gn "$1") || exit
umask 077
mkdir -p "$home/.ssh" && cat >>"$home/.ssh/authorized_keys" && chown -R "$1:$group" "$home/.ssh"`
	line := strings.TrimSpace(string(publicKey)) + "\n"
	if _, err := m.RunInput(ctx, strings.NewReader(line), "/bin/sh", "-c", script, "authorize", user); err != nil {
		return fmt.Errorf("authorize a key for %s: %w", user, err)
	}
	return nil
}

// SetPassword sets the password of user, who is created if missing. Debian's
// OpenSSH takes passwords from everyone but root.
func (m *Machine) SetPassword(ctx context.Context, user, password string) error {
	if strings.ContainsAny(password, "\n") {
		return errors.New("set a password: it has a line break")
	}
	if err := m.ensureUser(ctx, user); err != nil {
		return err
	}
	if _, err := m.RunInput(ctx, strings.NewReader(user+":"+password+"\n"), "chpasswd"); err != nil {
		return fmt.Errorf("set the password of %s: %w", user, err)
	}
	return nil
}

// AllowSudo says what user may do with sudo, from now on.
func (m *Machine) AllowSudo(ctx context.Context, user string, mode SudoMode) error {
	if err := m.ensureUser(ctx, user); err != nil {
		return err
	}
	file := "/etc/sudoers.d/" + user
	var rule string
	switch mode {
	case NoPassword:
		rule = user + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	case WithPassword:
		rule = user + " ALL=(ALL:ALL) ALL\n"
	case Denied:
		_, err := m.Run(ctx, "rm", "-f", file)
		return err
	default:
		return fmt.Errorf("allow sudo: unknown mode %q", mode)
	}
	// sudo reads no file with a dot in its name, and so never a half-written one.
	const script = `umask 337 && cat >"$1.new" && mv -f "$1.new" "$1"`
	if _, err := m.RunInput(ctx, strings.NewReader(rule), "/bin/sh", "-c", script, "sudo", file); err != nil {
		return fmt.Errorf("allow sudo to %s: %w", user, err)
	}
	return nil
}

func (m *Machine) ensureUser(ctx context.Context, user string) error {
	const script = `id "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/sh "$1"`
	if _, err := m.Run(ctx, "/bin/sh", "-c", script, "user", user); err != nil {
		return fmt.Errorf("create user %s: %w", user, err)
	}
	return nil
}

// HostKeys lists the public host keys of the machine's SSH server, as
// "ssh-ed25519 AAAA..." without a comment, sorted.
func (m *Machine) HostKeys(_ context.Context) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(m.root, "etc/ssh/ssh_host_*_key.pub"))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the host keys of %s: %w", m.options.Name, err)
		}
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			return nil, fmt.Errorf("read the host keys of %s: %s is malformed", m.options.Name, file)
		}
		keys = append(keys, fields[0]+" "+fields[1])
	}
	slices.Sort(keys)
	return keys, nil
}
