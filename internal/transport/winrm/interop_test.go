package winrm_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

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
