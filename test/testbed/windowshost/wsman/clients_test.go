package wsman_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman/realm"
)

// Clients that nobody here wrote: pywinrm and Ansible's connection plugin, with
// Debian's requests, requests-ntlm, requests-kerberos and MIT Kerberos below.
//
// What they cannot do here: pywinrm seals with Kerberos only through functions that
// Debian's python3-kerberos does not have (they are in pykerberos), so Kerberos is
// driven over HTTPS, and its sealing by MIT's library on the other side of our own
// client (internal/transport/winrm). Ansible's exec_command, put_file and modules
// start PowerShell, so of its plugin what lies below is used.

// local runs the lines of commands on this machine.
type local struct{}

type program struct {
	*exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.ReadCloser
}

func (local) Run(_ wsman.Shell, line string) (wsman.Program, error) {
	p := &program{Cmd: exec.Command("/bin/sh", "-c", line)}
	var errs [3]error
	p.stdin, errs[0] = p.StdinPipe()
	p.stdout, errs[1] = p.StdoutPipe()
	p.stderr, errs[2] = p.StderrPipe()
	return p, errors.Join(append(errs[:], p.Start())...)
}

func (p *program) Stdin() io.WriteCloser { return p.stdin }
func (p *program) Stdout() io.ReadCloser { return p.stdout }
func (p *program) Stderr() io.ReadCloser { return p.stderr }
func (p *program) Kill()                 { p.Process.Kill() }

func (p *program) Wait() (uint32, error) {
	err := p.Cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return uint32(exit.ExitCode()), nil
	}
	return 0, err
}

// clients is what Python scripts find: the services, and the files for them.
type clients struct {
	t             *testing.T
	dir           string
	tls, plain    *wsman.Server
	https, http   string
	environment   []string
	authorityFile string
}

func newClients(t *testing.T) *clients {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := cache.Packages(ctx, os.Stderr, append(realm.Packages, "python3-winrm", "python3-requests-kerberos", "ansible")...); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("this machine lacks something: %v", err)
	}
	c := &clients{t: t, dir: t.TempDir()}
	acceptor := c.realm(ctx)
	authority, service := c.certificates()
	options := wsman.Options{Machine: "WINHOST", User: "Administrator", Password: "s3cret", Programs: local{}, Acceptor: acceptor,
		ClientAuthorities: authority, Certificate: service}
	c.tls, c.https = serve(t, options, "https://localhost:")
	options.Certificate = nil
	c.plain, c.http = serve(t, options, "http://localhost:")
	t.Cleanup(func() {
		for _, server := range []*wsman.Server{c.tls, c.plain} {
			if n := server.Counters(); n.OpenShells != 0 || n.OpenCommands != 0 {
				t.Errorf("left open: %+v", n)
			}
			if n := server.FailedLogons(); n != 0 {
				t.Errorf("%d failed logons", n)
			}
		}
	})
	return c
}

func (c *clients) realm(ctx context.Context) *realm.Acceptor {
	c.t.Helper()
	j, err := janitor.New(c.t.TempDir())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { j.Close() })
	r, err := realm.Start(ctx, realm.Options{Dir: c.t.TempDir(), Janitor: j, Users: map[string]string{"Administrator": "s3cret"}, Services: []string{"HTTP/localhost"}})
	if err != nil {
		c.t.Fatal(err)
	}
	acceptor, err := r.NewAcceptor()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(acceptor.Close(), r.Stop(ctx)); err != nil {
			c.t.Error(err)
		}
	})
	// OpenSSL 3 has put MD4 away, which NTLM is made of.
	openssl := filepath.Join(c.dir, "openssl.cnf")
	err = os.WriteFile(openssl, []byte("openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = on\nlegacy = on\n[on]\nactivate = 1\n"), 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	c.environment = append(append(os.Environ(), r.Environment()...), "OPENSSL_CONF="+openssl, "HOME="+c.dir, "ANSIBLE_LOCAL_TEMP="+c.dir)
	kinit := exec.CommandContext(ctx, "kinit", "Administrator")
	kinit.Env, kinit.Stdin = c.environment, strings.NewReader("s3cret\n")
	if out, err := kinit.CombinedOutput(); err != nil {
		c.t.Fatalf("kinit: %v\n%s", err, out)
	}
	return acceptor
}

// certificates writes ca.pem, client.pem and client.key, and returns what the service needs.
func (c *clients) certificates() (*x509.CertPool, *tls.Certificate) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		SignatureAlgorithm: x509.ECDSAWithSHA256}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.authorityFile = filepath.Join(c.dir, "ca.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(c.authorityFile, public, 0o600), os.WriteFile(filepath.Join(c.dir, "client.pem"), public, 0o600),
		os.WriteFile(filepath.Join(c.dir, "client.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)); err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return pool, &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func serve(t *testing.T, o wsman.Options, prefix string) (*wsman.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := wsman.NewServer(o)
	server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return server, prefix + port + "/wsman"
}

// python runs a script; its arguments are the URL, the directory and more.
func (c *clients) python(script string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", append([]string{"-W", "ignore", "-c", script}, args...)...)
	cmd.Env = c.environment
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("%v\n%s\n%s", err, out.String(), log.String())
	}
	return out.String()
}

const session = `
import sys, winrm
dir = sys.argv[1]
for way in sys.argv[2:]:
    name, url, transport, encryption = way.split()
    s = winrm.Session(url, auth=('Administrator', 's3cret'), transport=transport, message_encryption=encryption, ca_trust_path=dir + '/ca.pem',
        server_cert_validation='validate', cert_pem=dir + '/client.pem', cert_key_pem=dir + '/client.key')
    for command, args in (('echo', ['hello', 'wörld']), ('exit', ['7']), ('head -c 300000 /dev/zero | tr "\\0" x; echo oops >&2', [])):
        r = s.run_cmd(command, args)
        print(name, r.status_code, len(r.std_out), r.std_out[:20].decode().strip(), r.std_err.decode().strip())
`

func TestPyWinRM(t *testing.T) {
	c := newClients(t)
	ways := []string{
		"basic " + c.https + " basic auto", "certificate " + c.https + " certificate auto", "ntlm " + c.https + " ntlm auto",
		"sealed-twice " + c.https + " ntlm always", "sealed " + c.http + " ntlm auto", "kerberos " + c.https + " kerberos never",
	}
	out := c.python(session, append([]string{c.dir}, ways...)...)
	for _, way := range ways {
		name, _, _ := strings.Cut(way, " ")
		want := name + " 0 13 hello wörld \n" + name + " 7 0  \n" + name + " 0 300000 xxxxxxxxxxxxxxxxxxxx oops\n"
		if !strings.Contains(out, want) {
			t.Errorf("%s: got %q", name, out)
		}
	}
}

// What comes in the clear over HTTP is answered to nobody.
func TestPyWinRMInTheClear(t *testing.T) {
	c := newClients(t)
	for _, way := range [][2]string{{"ntlm", "never"}, {"kerberos", "never"}} {
		out := c.python(`
import sys, winrm
url, dir, transport, encryption = sys.argv[1:]
try:
    winrm.Session(url, auth=('Administrator', 's3cret'), transport=transport, message_encryption=encryption).run_cmd('echo')
    print('taken')
except Exception as e:
    print('refused', type(e).__name__)
`, c.http, c.dir, way[0], way[1])
		if !strings.HasPrefix(out, "refused") || c.plain.Counters().Requests != 0 {
			t.Errorf("%s: %s, %d requests", way[0], out, c.plain.Counters().Requests)
		}
	}
}

const ansible = `
import sys
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader
dir = sys.argv[1]
for way in sys.argv[2:]:
    scheme, port, transport = way.split()
    extras = {'ansible_winrm_server_cert_validation': 'validate', 'ansible_winrm_ca_trust_path': dir + '/ca.pem',
        'ansible_winrm_cert_pem': dir + '/client.pem', 'ansible_winrm_cert_key_pem': dir + '/client.key'}
    connection = connection_loader.get('winrm', PlayContext(), '/dev/null')
    connection.set_options(var_options=dict(
        ansible_host='localhost', ansible_user='Administrator', ansible_password='s3cret', ansible_port=int(port), ansible_winrm_scheme=scheme,
        ansible_winrm_transport=[transport], ansible_winrm_kinit_mode='manual', _extras=extras))
    connection._connect()
    r = connection._winrm_exec('echo', ['hello'], from_exec=True)
    print(way, r.status_code, r.std_out.strip())
    content = [(b'0123456789' * 3000, False)] * 4 + [(b'end', True)]
    r = connection._winrm_exec('wc', ['-c'], from_exec=True, stdin_iterator=iter(content))
    print(way, r.status_code, r.std_out.strip())
    connection.close()
`

func TestAnsibleConnectionPlugin(t *testing.T) {
	c := newClients(t)
	port := func(url string) string {
		return strings.TrimSuffix(url[strings.LastIndexByte(url, ':')+1:], "/wsman")
	}
	ways := []string{"https " + port(c.https) + " ntlm", "http " + port(c.http) + " ntlm", "https " + port(c.https) + " certificate", "https " + port(c.https) + " kerberos"}
	out := c.python(ansible, append([]string{c.dir}, ways...)...)
	for _, way := range ways {
		if want := way + " 0 hello\n" + way + " 0 120003\n"; !strings.Contains(out, want) {
			t.Errorf("%s: got %q", way, out)
		}
	}
}
