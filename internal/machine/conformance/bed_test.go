package conformance_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/sshd"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
)

// The hosts of the test bed are given to the suite as any other host is: by the
// flags of target_test.go. So what a person does with a real host is tested here.

func parse(t *testing.T, register []func(*flag.FlagSet), arguments ...string) {
	t.Helper()
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	for _, r := range register {
		r(flags)
	}
	require.NoError(t, flags.Parse(arguments))
}

func runBySSH(t *testing.T, arguments ...string) {
	t.Helper()
	target := sshTarget{}
	parse(t, []func(*flag.FlagSet){target.register, target.content.register}, arguments...)
	target.run(t)
}

func runByWinRM(t *testing.T, arguments ...string) {
	t.Helper()
	target := winrmTarget{}
	parse(t, []func(*flag.FlagSet){target.register, target.content.register}, arguments...)
	target.run(t)
}

// TestOpenSSH: a POSIX host that is this machine, behind a real OpenSSH server on loopback.
func TestOpenSSH(t *testing.T) {
	need(t, "/usr/sbin/sshd")
	keyFile, public := newKey(t)
	options := sshd.Options{Dir: t.TempDir(), Janitor: newJanitor(t), AuthorizedKeys: [][]byte{public}}
	if os.Geteuid() == 0 {
		options.ForceShell = "/bin/sh"
	}
	server, err := sshd.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	runBySSH(t,
		"-ssh-host", server.User()+"@"+server.Addr(), "-ssh-key", keyFile, "-ssh-host-key", server.HostKeys()[0],
		"-ssh-dir", filepath.Join(t.TempDir(), "conformance"), "-download-url", serve(t, "127.0.0.1"))
}

// TestLinuxHost: a Debian machine with systemd, as a user who becomes root.
func TestLinuxHost(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "a machine needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	j := newJanitor(t)
	n, err := network.New(ctx, j)
	require.NoError(t, err)
	host, err := linuxhost.Start(ctx, linuxhost.Options{
		Name: "conform", Network: n, Janitor: j, Dir: t.TempDir(), Progress: t.Output(), Packages: []string{"busybox-static"},
	})
	require.NoError(t, err)
	// Debian's smallest system has no program that downloads.
	_, err = host.Run(ctx, "ln", "-s", "/bin/busybox", "/usr/local/bin/wget")
	require.NoError(t, err)
	keyFile, public := newKey(t)
	require.NoError(t, host.Authorize(ctx, "ops", public))
	require.NoError(t, host.AllowSudo(ctx, "ops", linuxhost.NoPassword))
	keys, err := host.HostKeys(ctx)
	require.NoError(t, err)
	runBySSH(t,
		"-ssh-host", "ops@"+host.Address().String()+":22", "-ssh-key", keyFile, "-ssh-host-key", keys[0], "-ssh-become", "root",
		"-download-url", serve(t, n.Address().String()))
}

// TestWindowsHost: the stand-in for a Windows server, with Wine behind it.
func TestWindowsHost(t *testing.T) {
	need(t, "wine")
	need(t, "x86_64-w64-mingw32-gcc")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	host, err := windowshost.Start(ctx, windowshost.Options{Dir: dir, Janitor: newJanitor(t), Progress: t.Output()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Stop(context.Background())) })
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, host.CA(), 0o600))
	t.Setenv("ISTHMUS_WINRM_USER", host.User())
	t.Setenv("ISTHMUS_WINRM_PASSWORD", host.Password())
	arguments := []string{"-winrm-host", net.JoinHostPort(host.Address(), strconv.Itoa(host.Port())), "-winrm-ca", ca}
	curl, err := host.Path(`C:\windows\System32\curl.exe`)
	require.NoError(t, err)
	if _, err := os.Stat(curl); err == nil {
		arguments = append(arguments, "-download-url", serve(t, "127.0.0.1"))
	}
	runByWinRM(t, arguments...)
}

// serve serves one file at an address of this machine.
func serve(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address+":0")
	require.NoError(t, err)
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data) // never fails
	mux := http.NewServeMux()
	mux.HandleFunc("GET /a%20file.bin", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String() + "/a%20file.bin"
}

func newKey(t *testing.T) (file string, public []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := gossh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	signer, err := gossh.NewSignerFromKey(key)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	return file, gossh.MarshalAuthorizedKey(signer.PublicKey())
}

func newJanitor(t *testing.T) *janitor.Janitor {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		missing(t, program+" is not installed")
	}
}

// missing ends a test that lacks a prerequisite: a failure in CI, a skip elsewhere.
func missing(t *testing.T, why string) {
	t.Helper()
	if testing.Short() {
		t.Skip("short: " + why)
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
