package conformance_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/conformance"
	"github.com/isthmus-dev/isthmus/internal/machine/posix"
	"github.com/isthmus-dev/isthmus/internal/machine/windows"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// content is what both kinds of target can have.
type content struct {
	downloadURL string
	stageSize   int64
}

func (c *content) register(flags *flag.FlagSet) {
	flags.StringVar(&c.downloadURL, "download-url", "", "a file of at most 64 MiB that the host, and this machine, can download; without it downloads are not tested")
	flags.Int64Var(&c.stageSize, "stage-size", 5<<20, "how many bytes are staged on the host")
}

// describe fills in what the suite needs to know of the file at downloadURL.
func (c *content) describe(t *testing.T, host *conformance.Host) {
	t.Helper()
	host.LargeSize = c.stageSize
	host.NoDownload = "no -download-url that the host can reach was given"
	if c.downloadURL == "" {
		return
	}
	response, err := http.Get(c.downloadURL)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	host.Download = &conformance.Download{URL: c.downloadURL, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// sshTarget is a POSIX host that is reached by SSH. A password comes from the
// environment: ISTHMUS_SSH_PASSWORD.
type sshTarget struct {
	host, keyFile, hostKey, become, dir string
	content
}

func (s *sshTarget) register(flags *flag.FlagSet) {
	flags.StringVar(&s.host, "ssh-host", "", "USER@HOST:PORT of a POSIX host to test; a password comes from ISTHMUS_SSH_PASSWORD")
	flags.StringVar(&s.keyFile, "ssh-key", "", "file with the private key, without a passphrase")
	flags.StringVar(&s.hostKey, "ssh-host-key", "", "the host's public key as ssh-keyscan prints it, without the name: ssh-ed25519 AAAA...")
	flags.StringVar(&s.become, "ssh-become", "", "the user to become by sudo without a password")
	flags.StringVar(&s.dir, "ssh-dir", "/var/tmp/isthmus-conformance", "where everything is made on the host, and removed")
}

func (s *sshTarget) dial(t *testing.T) *ssh.Client {
	t.Helper()
	user, address, found := strings.Cut(s.host, "@")
	require.True(t, found, "-ssh-host wants USER@HOST:PORT")
	config := ssh.Config{Address: address, User: user, HostKeys: []string{s.hostKey}, Password: os.Getenv("ISTHMUS_SSH_PASSWORD")}
	if s.keyFile != "" {
		var err error
		config.PrivateKey, err = os.ReadFile(s.keyFile)
		require.NoError(t, err)
	}
	client, err := ssh.Dial(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *sshTarget) connect(t *testing.T, stateDir string) machine.Machine {
	t.Helper()
	user, _, _ := strings.Cut(s.host, "@")
	options := posix.Options{StateDir: stateDir, LoginUser: user}
	if s.become != "" {
		options.Become = &posix.Become{User: s.become}
	}
	return posix.New(s.dial(t), options)
}

func (s *sshTarget) remove(t *testing.T, dir string) {
	t.Helper()
	command := "/bin/sh -s"
	if s.become != "" {
		command = "sudo -n -u '" + s.become + "' /bin/sh -s"
	}
	// A sleep of a job that was ended may be about to end.
	script := fmt.Sprintf("rm -rf '%s' || { sleep 2; rm -rf '%s'; } || exit\nrmdir '%s' 2>/dev/null\nexit 0\n", dir, dir, s.dir)
	result, err := s.dial(t).Run(context.Background(), ssh.Request{Command: command, Stdin: strings.NewReader(script)})
	if err != nil || result.ExitCode != 0 {
		t.Errorf("remove %s: exit code %d, %s, %v", dir, result.ExitCode, result.Stderr, err)
	}
}

func (s *sshTarget) run(t *testing.T) {
	host := conformance.Host{System: conformance.POSIX, Dir: s.dir, Connect: s.connect, Remove: s.remove}
	s.describe(t, &host)
	conformance.Run(t, host)
}

// winrmTarget is a Windows host that is reached by WinRM. The account comes from
// the environment: ISTHMUS_WINRM_USER and ISTHMUS_WINRM_PASSWORD.
type winrmTarget struct {
	host, caFile, scheme, authentication, serverName, dir string
	certificateFile, keyFile, realm, kdcs                 string
	content
}

func (w *winrmTarget) register(flags *flag.FlagSet) {
	flags.StringVar(&w.host, "winrm-host", "", "HOST:PORT of a Windows host's HTTPS listener; the account comes from ISTHMUS_WINRM_USER and ISTHMUS_WINRM_PASSWORD")
	flags.StringVar(&w.caFile, "winrm-ca", "", "file with the certificates to verify the host's by; without it the system's")
	flags.StringVar(&w.serverName, "winrm-server-name", "", "the name in the host's certificate, if it is not that of -winrm-host")
	flags.StringVar(&w.scheme, "winrm-scheme", winrm.HTTPS, "HTTPS, or HTTP with sealed messages")
	flags.StringVar(&w.authentication, "winrm-auth", winrm.NTLM, "NTLM, Kerberos, Certificate or Basic")
	flags.StringVar(&w.certificateFile, "winrm-cert", "", "file with the client certificate, for Certificate")
	flags.StringVar(&w.keyFile, "winrm-key", "", "file with its private key")
	flags.StringVar(&w.realm, "winrm-realm", "", "realm of the account in upper case, for Kerberos")
	flags.StringVar(&w.kdcs, "winrm-kdcs", "", "its domain controllers, HOST[:PORT], with commas between")
	flags.StringVar(&w.dir, "winrm-dir", `C:\ProgramData\isthmus-conformance`, "where everything is made on the host, and removed")
}

func (w *winrmTarget) dial(t *testing.T) *winrm.Client {
	t.Helper()
	config := winrm.Config{
		Scheme: w.scheme, Address: w.host, ServerName: w.serverName, Authentication: w.authentication,
		Username: os.Getenv("ISTHMUS_WINRM_USER"), Password: os.Getenv("ISTHMUS_WINRM_PASSWORD"),
		ClientCertificate: contentOf(t, w.certificateFile), ClientKey: contentOf(t, w.keyFile),
	}
	if w.realm != "" {
		config.Realm = winrm.Realm{Name: w.realm, KDCs: strings.Split(w.kdcs, ",")}
	}
	if w.caFile != "" {
		certificates, err := os.ReadFile(w.caFile)
		require.NoError(t, err)
		config.Roots = x509.NewCertPool()
		require.True(t, config.Roots.AppendCertsFromPEM(certificates), "no certificate in %s", w.caFile)
	}
	client, err := winrm.Dial(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// contentOf is the content of a file that a flag names; nil for none.
func contentOf(t *testing.T, file string) []byte {
	t.Helper()
	if file == "" {
		return nil
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return content
}

func (w *winrmTarget) connect(t *testing.T, stateDir string) machine.Machine {
	t.Helper()
	m, err := windows.New(w.dial(t), windows.Options{StateDir: stateDir})
	require.NoError(t, err)
	return m
}

// remove tries for a while: a process that was ended may still be in a directory.
func (w *winrmTarget) remove(t *testing.T, dir string) {
	t.Helper()
	client := w.dial(t)
	line := fmt.Sprintf(`rmdir /s /q "%s" 2>nul& rmdir "%s" 2>nul& if exist "%s" (exit 1) else (exit 0)`, dir, w.dir, dir)
	for attempt := 0; ; attempt++ {
		result, err := client.Run(context.Background(), winrm.Request{Command: line})
		if err == nil && result.ExitCode == 0 {
			return
		}
		if err != nil || attempt == 10 {
			t.Errorf("remove %s: exit code %d, %s, %v", dir, result.ExitCode, result.Stderr, err)
			return
		}
		time.Sleep(time.Second)
	}
}

func (w *winrmTarget) run(t *testing.T) {
	host := conformance.Host{System: conformance.Windows, Dir: w.dir, Connect: w.connect, Remove: w.remove}
	w.describe(t, &host)
	conformance.Run(t, host)
}

var (
	bySSH   sshTarget
	byWinRM winrmTarget
	shared  content
)

func init() {
	bySSH.register(flag.CommandLine)
	byWinRM.register(flag.CommandLine)
	shared.register(flag.CommandLine)
}

// TestSSHHost runs against the host that -ssh-host names.
func TestSSHHost(t *testing.T) {
	if bySSH.host == "" {
		t.Skip("no -ssh-host was given")
	}
	bySSH.content = shared
	bySSH.run(t)
}

// TestWinRMHost runs against the host that -winrm-host names.
func TestWinRMHost(t *testing.T) {
	if byWinRM.host == "" {
		t.Skip("no -winrm-host was given")
	}
	byWinRM.content = shared
	byWinRM.run(t)
}
