package windowshost

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// transport drives the host with the operator's own client, over HTTPS and with
// sealed messages over HTTP: commands of a real cmd.exe, and the classes that the
// operator uses.
func transport(t *testing.T, h *Host) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(h.CA()) {
		t.Fatal("the CA is not PEM")
	}
	at := func(port int) string { return net.JoinHostPort(h.Address(), strconv.Itoa(port)) }
	for _, config := range []winrm.Config{
		{Scheme: winrm.HTTPS, Address: at(h.Port()), Roots: roots}, {Scheme: winrm.HTTP, Address: at(h.PlainPort())},
	} {
		t.Run(config.Scheme, func(t *testing.T) {
			config.Username, config.Password, config.Authentication = h.User(), h.Password(), winrm.NTLM
			c, err := winrm.Dial(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() //nolint:errcheck // looked at below
			transportCommands(t, c)
			transportProcesses(t, c)
			transportObjects(t, h, c)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func transportCommands(t *testing.T, c *winrm.Client) {
	for command, want := range map[string]uint32{"exit 0": 0, "exit 300": 300, "exit 70000": 70000, "exit -1073741515": 0xC0000135, "sc.exe query nowhere": 1060} {
		if result, err := c.Run(t.Context(), winrm.Request{Command: command}); err != nil || result.ExitCode != want {
			t.Errorf("%s: exit code %d, %v", command, result.ExitCode, err)
		}
	}
	result, err := c.Run(t.Context(), winrm.Request{Command: `cmd /q /k prompt $s`, Stdin: strings.NewReader("exit 7\r\n")})
	if err != nil || result.ExitCode != 7 {
		t.Errorf("%q, %d, %v", result.Stdout, result.ExitCode, err)
	}
}

func transportProcesses(t *testing.T, c *winrm.Client) {
	line := `cmd.exe /c "for /l %i in () do @rem <a> & ]]> 'b'"`
	output, err := c.Invoke(t.Context(), "root/cimv2", "Win32_Process", nil, "Create", []winrm.Param{{Name: "CommandLine", Values: []string{line}}})
	if err != nil || output.String("ReturnValue") != "0" {
		t.Fatalf("Create: %v, %v", output, err)
	}
	pid := output.String("ProcessId")
	// Wine's own beginning of a process has no command line yet.
	await(t, "the process with its command line", func() bool {
		found, err := c.Query(t.Context(), "root/cimv2", "SELECT ProcessId, CommandLine FROM Win32_Process WHERE ProcessId = "+pid)
		return err == nil && len(found) == 1 && found[0].String("CommandLine") == line
	})
	handle := map[string]string{"Handle": pid}
	if one, err := c.Get(t.Context(), "root/cimv2", "Win32_Process", handle); err != nil || one.String("ProcessId") != pid {
		t.Errorf("get process %s: %v, %v", pid, one, err)
	}
	if output, err := c.Invoke(t.Context(), "root/cimv2", "Win32_Process", handle, "Terminate", nil); err != nil || output.String("ReturnValue") != "0" {
		t.Errorf("Terminate: %v, %v", output, err)
	}
	await(t, "the process to end", func() bool {
		found, err := c.Query(t.Context(), "root/cimv2", "SELECT ProcessId FROM Win32_Process WHERE ProcessId = "+pid)
		return err == nil && len(found) == 0
	})
	for _, value := range []string{"a\x00b", "\x1b[2J", "\xff"} {
		if _, err := c.Invoke(t.Context(), "root/cimv2", "Win32_Process", nil, "Create", []winrm.Param{{Name: "CommandLine", Values: []string{value}}}); err == nil {
			t.Errorf("%q was sent", value)
		}
	}
}

func transportObjects(t *testing.T, h *Host, c *winrm.Client) {
	system, err := c.Get(t.Context(), "root/cimv2", "Win32_OperatingSystem", nil)
	if err != nil || system.String("CSName") != h.Name() {
		t.Errorf("operating system %v, %v", system, err)
	}
	services, err := c.Query(t.Context(), "root/cimv2", "SELECT * FROM Win32_Service")
	if err != nil || len(services) == 0 {
		t.Fatalf("%d services, %v", len(services), err)
	}
	name := services[0].String("Name")
	one, err := c.Get(t.Context(), "root/cimv2", "Win32_Service", map[string]string{"Name": name})
	if err != nil || one.String("PathName") != services[0].String("PathName") {
		t.Errorf("service %s: %v, %v", name, one, err)
	}
	_, err = c.Invoke(t.Context(), "root/cimv2", "Win32_Service", map[string]string{"Name": "no<where>&"}, "StartService", nil)
	var fault *winrm.Fault
	if !errors.As(err, &fault) || fault.Code == 0 {
		t.Errorf("a service that is not there: %v", err)
	}
	path, err := h.Path(`C:\transport.txt`)
	if err := errors.Join(err, os.WriteFile(filepath.Clean(path), []byte("hello"), 0o600)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path) //nolint:errcheck // the directory goes anyway
	found, err := c.Query(t.Context(), "root/cimv2", fmt.Sprintf(`SELECT Name, FileSize FROM CIM_DataFile WHERE Name = '%s'`, `C:\\transport.txt`))
	if err != nil || len(found) != 1 || found[0].String("FileSize") != "5" {
		t.Errorf("file: %v, %v", found, err)
	}
}
