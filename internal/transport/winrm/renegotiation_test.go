package winrm_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// Windows asks for a client certificate when it has read a request that announces
// one. The server of crypto/tls cannot do that; that of OpenSSL can.
func TestClientCertificateIsAskedForLate(t *testing.T) {
	a := newAuthority(t)
	server := lateAsker(t, a)
	config := winrm.Config{Address: server.address, Roots: a.pool(), Authentication: winrm.Certificate}
	config.ClientCertificate, config.ClientKey = inPEM(t, a.issue(nil))
	go server.answer()
	c, err := winrm.Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// asker is "openssl s_server", which says what it reads and does, and does what it is told.
type asker struct {
	t       *testing.T
	address string
	said    *bufio.Scanner
	told    io.Writer
}

func lateAsker(t *testing.T, a *authority) *asker {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	certificate, key := inPEM(t, a.issue(nil))
	file := filepath.Join(t.TempDir(), "server.pem")
	if err := os.WriteFile(file, bytes.Join([][]byte{certificate, key}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", file, "-key", file, "-state")
	told, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		reader.Close()
		cmd.Wait()
	})
	server := &asker{t: t, said: bufio.NewScanner(reader), told: told}
	server.address = strings.TrimPrefix(server.await("ACCEPT "), "ACCEPT ")
	return server
}

// await reads to a line that holds a text.
func (s *asker) await(text string) string {
	for s.said.Scan() {
		if line := s.said.Text(); strings.Contains(line, text) {
			return line
		}
	}
	s.t.Errorf("openssl did not say %q", text)
	return ""
}

// answer reads a request, asks for the certificate, and answers when it has come.
func (s *asker) answer() {
	s.await("User-Agent: isthmus")
	fmt.Fprintln(s.told, "R")
	s.await("CN = orders01")
	s.await("write finished")
	body := `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><IdentifyResponse/></s:Body></s:Envelope>`
	fmt.Fprintf(s.told, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s\n", len(body), body)
}
