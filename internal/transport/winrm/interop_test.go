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
	"errors"
	"io"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
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
	var errs [3]error
	p.stdin, errs[0] = p.StdinPipe()
	p.stdout, errs[1] = p.StdoutPipe()
	p.stderr, errs[2] = p.StderrPipe()
	return p, errors.Join(append(errs[:], p.Start())...)
}

func (p *localProgram) Stdin() io.WriteCloser { return p.stdin }
func (p *localProgram) Stdout() io.ReadCloser { return p.stdout }
func (p *localProgram) Stderr() io.ReadCloser { return p.stderr }
func (p *localProgram) Kill()                 { p.Process.Kill() }

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

func serve(t *testing.T, limits wsman.Limits) (*wsman.Server, winrm.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "orders01"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := wsman.NewServer(wsman.Options{
		Machine: "ORDERS01", User: "operator", Password: "s3cret ü", Limits: limits,
		Certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, Programs: localPrograms{}, Repository: rows{},
	})
	server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return server, winrm.Config{
		Address: listener.Addr().String(), Roots: roots, Username: `.\operator`, Password: "s3cret ü", Authentication: winrm.NTLM, OperationTimeout: time.Second,
	}
}

func TestAgainstTheServiceOfTheTestBed(t *testing.T) {
	for _, mode := range []string{winrm.NTLM, winrm.Basic} {
		server, config := serve(t, wsman.Limits{MaxEnvelopeSizeKB: 150})
		config.Authentication = mode
		if mode == winrm.Basic {
			config.Username = "operator"
		}
		c, err := winrm.Dial(t.Context(), config)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		content := bytes.Repeat([]byte("0123456789\n"), 60_000)
		result, err := c.Run(t.Context(), winrm.Request{Command: "cat; sleep 1.5; echo 'a & <b>' >&2; exit", Args: []string{"7"}, Stdin: bytes.NewReader(content), MaxStdout: 1 << 20})
		if err != nil || result.ExitCode != 7 || !bytes.Equal(result.Stdout, content) || string(result.Stderr) != "a & <b>\n" {
			t.Errorf("%s: exit %d, %d bytes, %q, %v", mode, result.ExitCode, len(result.Stdout), result.Stderr, err)
		}
		query := `SELECT * FROM X WHERE Name='<&' AND "x"`
		instances, err := c.Query(t.Context(), "root/cimv2", query)
		if err != nil || len(instances) != 1200 {
			t.Fatalf("%s: %d instances, %v", mode, len(instances), err)
		}
		for i, instance := range instances[:2] {
			if instance.String("Query") != query || instance.String("When") != "1970-01-01T00:00:00.000001Z" || len(instance["List"]) != 2 || instance["Null"] != nil {
				t.Errorf("%s: instance %d: %v", mode, i, instance)
			}
		}
		output, err := c.Invoke(t.Context(), "root/cimv2", "Win32_Service", map[string]string{"Name": "a&b"}, "Change", []winrm.Param{{Name: "P", Values: []string{"<1>", "2"}}})
		if err != nil || output.String("Echo") != "Changea&b<1>|2" || output.String("ReturnValue") != "0" {
			t.Errorf("%s: output %v, %v", mode, output, err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: close: %v", mode, err)
		}
		if counters := server.Counters(); counters.OpenShells != 0 || counters.OpenCommands != 0 || counters.OpenEnumerations != 0 || counters.Connections > 2 {
			t.Errorf("%s: left on the host: %+v", mode, counters)
		}
		if n := server.FailedLogons(); n != 0 {
			t.Errorf("%s: %d failed logons", mode, n)
		}
	}
}

func TestWrongPasswordAtTheTestBed(t *testing.T) {
	for _, mode := range []string{winrm.NTLM, winrm.Basic} {
		server, config := serve(t, wsman.Limits{})
		config.Authentication, config.Username, config.Password = mode, "operator", "wrong"
		_, err := winrm.Dial(t.Context(), config)
		var refused *transport.CredentialsError
		if !errors.As(err, &refused) || server.FailedLogons() != 1 {
			t.Errorf("%s: %d failed logons, %v", mode, server.FailedLogons(), err)
		}
	}
}

func TestTroubleAtTheTestBed(t *testing.T) {
	server, config := serve(t, wsman.Limits{MaxShellsPerUser: 1})
	c, err := winrm.Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	run := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		_, err := c.Run(ctx, winrm.Request{Command: "echo hello"})
		return err
	}
	var lost *transport.LostError
	var fault *winrm.Fault
	for _, action := range []string{"Create", "Command", "Receive"} {
		for _, trouble := range []wsman.Trouble{wsman.DropBefore, wsman.DropAfter, wsman.Hang} {
			server.Inject(wsman.Injection{Action: action, Trouble: trouble})
			begun := time.Now()
			if err := run(500 * time.Millisecond); !errors.As(err, &lost) {
				t.Errorf("%s, trouble %v: error %v, want a LostError", action, trouble, err)
			}
			if took := time.Since(begun); took > 1500*time.Millisecond {
				t.Errorf("%s, trouble %v: ended after %v", action, trouble, took)
			}
			server.Calm()
			if action == "Create" && trouble == wsman.DropAfter {
				// Nobody knows the id of that shell; the host removes it when it has rested.
				c.Close()
				server, config = serve(t, wsman.Limits{MaxShellsPerUser: 1})
				if c, err = winrm.Dial(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	server.Inject(wsman.Injection{Action: "Receive", Trouble: wsman.Flood, Times: 30})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	result, err := c.Run(ctx, winrm.Request{Command: "echo hello", MaxStdout: 100})
	if err != nil || len(result.Stdout) != 100 || !result.Truncated {
		t.Errorf("%d bytes, %v", len(result.Stdout), err)
	}
	server.Inject(wsman.Injection{Action: "Receive", Trouble: wsman.Fail, Code: 995})
	if err := run(5 * time.Second); !errors.As(err, &fault) || fault.Code != 995 {
		t.Errorf("error %v", err)
	}
	if err := run(5 * time.Second); err != nil {
		t.Errorf("after a fault: %v", err)
	}
	if err := c.Close(); err != nil || server.Counters().OpenShells != 0 {
		t.Errorf("close: %v, %+v", err, server.Counters())
	}
}
