package winrm_test

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
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// The service of the test bed was written from the specifications and is checked
// with other clients, so that client and service do not share one misreading.
// Here it runs commands of the machine it is on.
type localPrograms struct{}

type localProgram struct {
	*exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.ReadCloser
}

func (localPrograms) Run(_ wsman.Shell, line string) (wsman.Program, error) {
	p := &localProgram{Cmd: exec.Command("/bin/sh", "-c", line)}
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var errs [3]error
	p.stdin, errs[0] = p.StdinPipe()
	p.stdout, errs[1] = p.StdoutPipe()
	p.stderr, errs[2] = p.StderrPipe()
	return p, errors.Join(append(errs[:], p.Start())...)
}

func (p *localProgram) Stdin() io.WriteCloser { return p.stdin }
func (p *localProgram) Stdout() io.ReadCloser { return p.stdout }
func (p *localProgram) Stderr() io.ReadCloser { return p.stderr }
func (p *localProgram) Kill()                 { syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }

func (p *localProgram) Wait() (uint32, error) {
	err := p.Cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return uint32(exit.ExitCode()), nil
	}
	return 0, err
}

type rows struct{ wsman.Repository }

func (rows) Query(_ context.Context, namespace, query string) ([]wsman.Instance, error) {
	if namespace != "root/cimv2" {
		return nil, wsman.NotFound()
	}
	var all []wsman.Instance
	for i := range 1200 {
		all = append(all, wsman.Instance{Projected: i%2 == 0, Class: wsman.Class{Namespace: namespace, Name: "X"}, Properties: []wsman.Property{
			{Name: "Number", Value: i}, {Name: "Query", Value: query}, {Name: "Null"}, {Name: "When", Value: time.Unix(0, 1500).UTC()}, {Name: "List", Value: []string{"a", "b"}},
		}})
	}
	return all, nil
}

func (rows) Invoke(_ context.Context, _ wsman.Class, method string, selectors map[string]string, in wsman.Parameters) ([]wsman.Property, error) {
	return []wsman.Property{{Name: "ReturnValue", Value: 0}, {Name: "Echo", Value: method + selectors["Name"] + strings.Join(in["P"], "|")}}, nil
}

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.root = a.sign(template, template, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate
}

// issue signs a certificate for 127.0.0.1, and for clients, as changed.
func (a *authority) issue(change func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "orders01"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	certificate := a.sign(template, a.root, key)
	return &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// inPEM is a certificate and its key as a Secret holds them.
func inPEM(t *testing.T, pair *tls.Certificate) (certificate, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// bed is the service of the test bed with what reaches it. At the end of the test
// nothing may be left open on it, and no goroutine of client or service.
type bed struct {
	*wsman.Server
	t         *testing.T
	authority *authority
	config    winrm.Config
}

// newBed serves over a scheme, with the options as changed.
func newBed(t *testing.T, scheme string, change func(*wsman.Options, *authority)) *bed {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	b := &bed{t: t, authority: newAuthority(t)}
	options := wsman.Options{Machine: "ORDERS01", User: "operator", Password: "s3cret ü", Programs: localPrograms{}, Repository: rows{},
		Binding: wsman.StrictBinding, Limits: wsman.Limits{MaxEnvelopeSizeKB: 150, EnumerationTimeout: time.Second}}
	if scheme == winrm.HTTPS {
		options.Certificate = b.authority.issue(nil)
	}
	if change != nil {
		change(&options, b.authority)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.Server = wsman.NewServer(options)
	b.Serve(listener)
	b.config = winrm.Config{Scheme: scheme, Address: listener.Addr().String(), Username: `.\operator`, Password: "s3cret ü",
		Authentication: winrm.NTLM, OperationTimeout: time.Second}
	if scheme == winrm.HTTPS {
		b.config.Roots = b.authority.pool()
	}
	t.Cleanup(func() {
		b.nothingLeft()
		b.Close()
		eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
	return b
}

// nothingLeft fails the test if something stays open on the service.
func (b *bed) nothingLeft() {
	b.t.Helper()
	eventually(b.t, "shells, commands and enumerations to be given back", func() bool {
		n := b.Counters()
		return n.OpenShells == 0 && n.OpenCommands == 0 && n.OpenEnumerations == 0
	})
}

// dial reaches the service, and closes the client before the test ends.
func (b *bed) dial() *winrm.Client {
	b.t.Helper()
	c, err := winrm.Dial(b.t.Context(), b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buffer := make([]byte, 1<<16)
			t.Errorf("waited for %s in vain\n%s", what, buffer[:runtime.Stack(buffer, true)])
			return
		}
	}
}

func serve(t *testing.T, limits wsman.Limits) (*wsman.Server, winrm.Config) {
	t.Helper()
	b := newBed(t, winrm.HTTPS, func(o *wsman.Options, _ *authority) { o.Limits = limits })
	return b.Server, b.config
}

// exercise runs a command with much input, a paged query and a method.
func exercise(t *testing.T, c *winrm.Client) {
	t.Helper()
	content := bytes.Repeat([]byte("0123456789\n"), 30_000)
	result, err := c.Run(t.Context(), winrm.Request{Command: "cat; echo grüße >&2; exit 200", Stdin: bytes.NewReader(content), MaxStdout: 1 << 20})
	if err != nil || !bytes.Equal(result.Stdout, content) || string(result.Stderr) != "grüße\n" || result.ExitCode != 200 {
		t.Fatalf("%d bytes, %q, exit code %d, %v", len(result.Stdout), result.Stderr, result.ExitCode, err)
	}
	instances, err := c.Query(t.Context(), "root/cimv2", "SELECT * FROM X WHERE A < '&]]>'")
	if err != nil || len(instances) != 1200 || instances[1199].String("Query") != "SELECT * FROM X WHERE A < '&]]>'" {
		t.Fatalf("%d instances, %v", len(instances), err)
	}
	output, err := c.Invoke(t.Context(), "root/cimv2", "X", map[string]string{"Name": `"a"&'b'`}, "M", []winrm.Param{{Name: "P", Values: []string{"<1>", "]]>"}}})
	if err != nil || output.String("Echo") != `M"a"&'b'<1>|]]>` {
		t.Fatalf("output %v, %v", output, err)
	}
}
