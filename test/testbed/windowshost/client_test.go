package windowshost

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	cimv2    = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/"
	standard = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/default/StdRegProv"
	shellURI = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	transfer = "http://schemas.xmlsoap.org/ws/2004/09/transfer/"
	listing  = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/"
)

// client writes envelopes by hand, so that a test sees what is on the wire.
type client struct {
	t        *testing.T
	host     *Host
	http     *http.Client
	password string
}

func newClient(t *testing.T, h *Host) *client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(h.CA()) {
		t.Fatal("the CA is not PEM")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, host: h, http: &http.Client{Transport: transport, Timeout: 90 * time.Second}, password: h.Password()}
}

// post sends an envelope and returns the status and the answer.
func (c *client) post(action, resource, header, body string) (int, string, error) {
	content := `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"
 xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration"
 xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header><a:To>https://host/wsman</a:To>
<w:ResourceURI s:mustUnderstand="true">` + resource + `</w:ResourceURI><a:ReplyTo><a:Address s:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>
<a:Action s:mustUnderstand="true">` + action + `</a:Action><a:MessageID>uuid:1</a:MessageID>` + header + `</s:Header><s:Body>` + body + `</s:Body></s:Envelope>`
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, fmt.Sprintf("https://%s:%d/wsman", c.host.Address(), c.host.Port()), strings.NewReader(content))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/soap+xml;charset=UTF-8")
	request.SetBasicAuth(c.host.User(), c.password)
	response, err := c.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// ok is post for a request that must succeed.
func (c *client) ok(action, resource, header, body string) string {
	c.t.Helper()
	status, answer, err := c.post(action, resource, header, body)
	if err != nil || status != http.StatusOK {
		c.t.Fatalf("%s: %d, %v\n%s", action, status, err, answer)
	}
	if err := xml.Unmarshal([]byte(answer), new(struct{})); err != nil {
		c.t.Fatalf("%s: %v\n%s", action, err, answer)
	}
	return answer
}

// fault is post for a request that must fail with a code.
func (c *client) fault(code, action, resource, header, body string) string {
	c.t.Helper()
	status, answer, err := c.post(action, resource, header, body)
	if err != nil || status != http.StatusInternalServerError || !strings.Contains(answer, `Code="`+code+`"`) {
		c.t.Errorf("%s: %d, %v, want 500 with code %s\n%s", action, status, err, code, answer)
	}
	return answer
}

func selectors(pairs ...string) string {
	out := "<w:SelectorSet>"
	for i := 0; i < len(pairs); i += 2 {
		out += `<w:Selector Name="` + pairs[i] + `">` + pairs[i+1] + `</w:Selector>`
	}
	return out + "</w:SelectorSet>"
}

// first is what a regular expression captures; a test fails if it does not match.
func first(t *testing.T, expression, text string) string {
	t.Helper()
	found := regexp.MustCompile(expression).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("%s is not in\n%s", expression, text)
	}
	return found[1]
}

// invoke calls a method and returns ReturnValue and the whole answer.
func (c *client) invoke(class, method, selector string, parameters ...string) (string, string) {
	c.t.Helper()
	resource := cimv2 + class
	if class == "StdRegProv" {
		resource = standard
	}
	body := `<p:` + method + `_INPUT xmlns:p="` + resource + `">`
	for i := 0; i < len(parameters); i += 2 {
		var value bytes.Buffer
		_ = xml.EscapeText(&value, []byte(parameters[i+1]))
		body += "<p:" + parameters[i] + ">" + value.String() + "</p:" + parameters[i] + ">"
	}
	answer := c.ok(resource+"/"+method, resource, selector, body+"</p:"+method+"_INPUT>")
	return first(c.t, `<p:ReturnValue>(\d+)</p:ReturnValue>`, answer), answer
}

// query returns the answer to an optimized enumeration by WQL.
func (c *client) query(wql string) string {
	c.t.Helper()
	return c.ok(listing+"Enumerate", cimv2+"*", "", enumerate(wql, 1000))
}

func enumerate(wql string, most int) string {
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(wql))
	return fmt.Sprintf(`<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>%d</w:MaxElements><w:Filter Dialect="http://schemas.microsoft.com/wbem/wsman/1/WQL">%s</w:Filter></n:Enumerate>`, most, text.String())
}

// property is the text of a property in an answer.
func property(t *testing.T, name, answer string) string {
	t.Helper()
	return first(t, `<(?:p:)?`+name+`>(?:<(?:cim:)?Datetime>)?([^<]*)<`, answer)
}

// openShell returns the shell's selectors.
func (c *client) openShell() string {
	c.t.Helper()
	answer := c.ok(transfer+"Create", shellURI+"/cmd", `<w:OptionSet><w:Option Name="WINRS_CODEPAGE">65001</w:Option></w:OptionSet>`,
		`<rsp:Shell><rsp:Environment><rsp:Variable Name="REGION">north</rsp:Variable></rsp:Environment><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>`)
	return selectors("ShellId", first(c.t, `<w:Selector Name="ShellId">([^<]*)</w:Selector>`, answer))
}

func (c *client) closeShell(shell string) {
	c.t.Helper()
	c.ok(transfer+"Delete", shellURI+"/cmd", shell, "")
}

// startCommand returns the command's id.
func (c *client) startCommand(shell, command string) string {
	c.t.Helper()
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(command))
	answer := c.ok(shellURI+"/Command", shellURI+"/cmd", shell+`<w:OptionSet><w:Option Name="WINRS_SKIP_CMD_SHELL">FALSE</w:Option></w:OptionSet>`,
		"<rsp:CommandLine><rsp:Command>"+text.String()+"</rsp:Command></rsp:CommandLine>")
	return first(c.t, `<rsp:CommandId>([^<]*)</rsp:CommandId>`, answer)
}

func receive(id string) string {
	return `<rsp:Receive><rsp:DesiredStream CommandId="` + id + `">stdout stderr</rsp:DesiredStream></rsp:Receive>`
}

func signal(id string) string {
	return `<rsp:Signal CommandId="` + id + `"><rsp:Code>` + shellURI + `/signal/terminate</rsp:Code></rsp:Signal>`
}

// run runs a command with input and returns its output and exit code.
func (c *client) run(command, input string) (stdout, stderr, code string) {
	c.t.Helper()
	shell := c.openShell()
	defer c.closeShell(shell)
	id := c.startCommand(shell, command)
	c.ok(shellURI+"/Send", shellURI+"/cmd", shell, `<rsp:Send><rsp:Stream Name="stdin" CommandId="`+id+`" End="true">`+
		base64.StdEncoding.EncodeToString([]byte(input))+`</rsp:Stream></rsp:Send>`)
	streams := regexp.MustCompile(`<rsp:Stream Name="(\w+)"[^>]*>([^<]*)<`)
	for {
		answer := c.ok(shellURI+"/Receive", shellURI+"/cmd", shell, receive(id))
		for _, found := range streams.FindAllStringSubmatch(answer, -1) {
			data, err := base64.StdEncoding.DecodeString(found[2])
			if err != nil {
				c.t.Fatal(err)
			}
			if found[1] == "stdout" {
				stdout += string(data)
			} else {
				stderr += string(data)
			}
		}
		if strings.Contains(answer, "CommandState/Done") {
			c.ok(shellURI+"/Signal", shellURI+"/cmd", shell, signal(id))
			return stdout, stderr, first(c.t, `<rsp:ExitCode>(\d+)</rsp:ExitCode>`, answer)
		}
	}
}

// await waits for a condition.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// get reads a URL.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return string(content), err
}
