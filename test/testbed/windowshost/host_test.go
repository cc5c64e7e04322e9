package windowshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/orders"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// unavailable ends a test that lacks something: in CI that is a failure.
func unavailable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skipf("this machine lacks something: %v", err)
}

// boot starts a host for one test, and looks afterwards that nothing of it is left.
func boot(t *testing.T, o Options) *Host {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := cache.Packages(ctx, os.Stderr, "wine", "wine64", "gcc-mingw-w64-x86-64", "python3-winrm"); err != nil {
		unavailable(t, err)
	}
	o.Dir, o.Progress = t.TempDir(), os.Stderr
	if o.Janitor == nil {
		o.Janitor = newJanitor(t)
	}
	start := time.Now()
	h, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the host is up after %s", time.Since(start))
	t.Cleanup(func() { stop(t, h, filepath.Join(o.Dir, "windows-"+strings.ToLower(h.Name()))) })
	return h
}

func newJanitor(t *testing.T) *janitor.Janitor {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func stop(t *testing.T, h *Host, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if c := h.Counters(); c.OpenShells != 0 || c.OpenCommands != 0 || c.OpenEnumerations != 0 {
		t.Errorf("left open: %+v", c)
	}
	if err := h.Stop(ctx); err != nil {
		t.Error(err)
	}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range environments {
		if environment, err := os.ReadFile(path); err == nil && strings.Contains(string(environment), "WINEPREFIX="+dir) {
			t.Errorf("a process of the host is left: %s", path)
		}
	}
	if err := h.options.Janitor.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the host's directory is left: %v", err)
	}
}

func TestHost(t *testing.T) {
	h := boot(t, Options{Name: "WIN1", Plain: SealedPlainHTTP, Limits: wsman.Limits{MaxShellsPerUser: 3, MaxEnvelopeSizeKB: 150}})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Host)
	}{
		{"PyWinRM", pywinrm}, {"WrongPassword", wrongPassword}, {"Shell", shell}, {"ShellFaults", shellFaults}, {"PowerShell", powershell},
		{"ServiceLifeCycle", serviceLifeCycle}, {"Enumeration", enumeration}, {"Faults", faults}, {"Processes", processes}, {"Files", files},
		{"Registry", registry}, {"System", system}, {"Transport", transport}, {"Injections", injections}, {"Reboot", reboot},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, h) })
	}
}

// openssl allows MD4, which NTLM is made of and OpenSSL 3 has put away.
const openssl = `openssl_conf = init
[init]
providers = providers
[providers]
default = on
legacy = on
[on]
activate = 1
`

// python runs a script against the host: its arguments are the URL, the user, the
// password and the file of the CA.
func python(t *testing.T, h *Host, url, script string) string {
	t.Helper()
	dir := t.TempDir()
	ca, config := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "openssl.cnf")
	if err := errors.Join(os.WriteFile(ca, h.CA(), 0o600), os.WriteFile(config, []byte(openssl), 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", "import sys, winrm\nurl, user, password, ca = sys.argv[1:]\n"+script,
		url, h.User(), h.Password(), ca)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+config)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

const pywinrmScript = `
s = winrm.Session(url, auth=(user, password), transport='%s', server_cert_validation='validate', ca_trust_path=ca, message_encryption='%s')
for command, args in (('echo', ['hello', 'world']), ('exit', ['70000']), ('sc.exe', ['query', 'nowhere'])):
    r = s.run_cmd(command, args)
    print(r.status_code, r.std_out.split(b'\r\n')[0].decode(), len(r.std_err))
`

func pywinrm(t *testing.T, h *Host) {
	https := fmt.Sprintf("https://%s:%d/wsman", h.Address(), h.Port())
	http := fmt.Sprintf("http://%s:%d/wsman", h.Address(), h.PlainPort())
	for _, test := range []struct{ name, url, transport, encryption string }{
		{"BasicOverHTTPS", https, "basic", "auto"}, {"NTLMOverHTTPS", https, "ntlm", "auto"},
		{"SealedNTLMOverHTTP", http, "ntlm", "always"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := python(t, h, test.url, fmt.Sprintf(pywinrmScript, test.transport, test.encryption))
			want := "0 hello world 0\n70000  0\n1060 [SC] EnumQueryServicesStatus:OpenService FAILED 1060: 0\n"
			if out != want {
				t.Errorf("got %q, want %q", out, want)
			}
		})
	}
	if n := h.FailedLogins(); n != 0 {
		t.Errorf("%d failed logins", n)
	}
}

func wrongPassword(t *testing.T, h *Host) {
	for _, transport := range []string{"basic", "ntlm"} {
		before := h.FailedLogins()
		out := python(t, h, fmt.Sprintf("https://%s:%d/wsman", h.Address(), h.Port()), `
s = winrm.Session(url, auth=(user, 'wrong'), transport='`+transport+`', ca_trust_path=ca)
try:
    s.run_cmd('echo')
    print('taken')
except winrm.exceptions.InvalidCredentialsError:
    print('refused')
`)
		if n := h.FailedLogins() - before; out != "refused\n" || n != 1 {
			t.Errorf("%s: %s, %d failed logins", transport, out, n)
		}
	}
	c := newClient(t, h)
	h.SetPassword("another")
	if status, _, err := c.post(transfer+"Get", cimv2+"Win32_OperatingSystem", "", ""); status != 401 || err != nil {
		t.Errorf("the old password: %d, %v", status, err)
	}
	h.SetPassword(h.Password())
	c.ok(transfer+"Get", cimv2+"Win32_OperatingSystem", "", "")
}

func shell(t *testing.T, h *Host) {
	c := newClient(t, h)
	for _, test := range []struct{ command, input, stdout, stderr, code string }{
		{"echo %REGION%", "", "north\r\n", "", "0"},
		{"exit -1", "", "", "", "4294967295"},
		{`cmd /q /k prompt $s`, "exit 7\r\n", "", "", "7"},
		{"echo oops 1>&2", "", "", "oops \r\n", "0"},
		{"echo a&echo b", "", "a\r\nb\r\n", "", "0"},
	} {
		if stdout, stderr, code := c.run(test.command, test.input); stdout != test.stdout || stderr != test.stderr || code != test.code {
			t.Errorf("%s: %q, %q, %s", test.command, stdout, stderr, code)
		}
	}
}

func shellFaults(t *testing.T, h *Host) {
	c := newClient(t, h)
	resource := shellURI + "/cmd"
	sh := c.openShell()
	id := c.startCommand(sh, "cmd /q /k prompt $s")
	start := time.Now()
	answer := c.fault("2150858793", shellURI+"/Receive", resource, sh+"<w:OperationTimeout>PT1S</w:OperationTimeout>", receive(id))
	if took := time.Since(start); took < 900*time.Millisecond || took > 20*time.Second || !strings.Contains(answer, "w:TimedOut") {
		t.Errorf("a timeout of 1 s took %s: %s", took, answer)
	}
	c.fault("170", shellURI+"/Command", resource, sh, "<rsp:CommandLine><rsp:Command>echo</rsp:Command></rsp:CommandLine>")
	c.fault("87", shellURI+"/Receive", resource, sh, "<rsp:Receive><rsp:DesiredStream>stdout</rsp:DesiredStream></rsp:Receive>")
	c.fault("2150858843", shellURI+"/Receive", resource, sh, receive("NONE"))
	c.ok(shellURI+"/Signal", resource, sh, signal(id))
	others := []string{c.openShell(), c.openShell()}
	if answer := c.fault("2150859173", transfer+"Create", resource, "", "<rsp:Shell/>"); !strings.Contains(answer, "maximum number of 3 concurrent shells") {
		t.Error(answer)
	}
	for _, other := range append(others, sh) {
		c.closeShell(other)
	}
	c.fault("2150858843", transfer+"Delete", resource, sh, "")
	c.fault("2150858878", transfer+"Create", resource, "<w:MaxEnvelopeSize>8000</w:MaxEnvelopeSize>", "<rsp:Shell/>")
	if status, _, err := c.post(transfer+"Create", resource, "", "<rsp:Shell>"+strings.Repeat(" ", 150<<10)+"</rsp:Shell>"); status != 413 || err != nil {
		t.Errorf("a large envelope: %d, %v", status, err)
	}
	if counters := h.Counters(); counters.OpenShells != 0 || counters.OpenCommands != 0 {
		t.Errorf("%+v", counters)
	}
}

func powershell(t *testing.T, h *Host) {
	c := newClient(t, h)
	// UTF-16LE of "# isthmus:deliver v2" in base64.
	const deliver = "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand IwAgAGkAcwB0AGgAbQB1AHMAOgBkAGUAbABpAHYAZQByACAAdgAyAA=="
	input := `{"path":"C:\\Orders\\a.txt","size":3,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}` + "\nYWJj\n"
	if stdout, stderr, code := c.run(deliver, input); code != "0" || !strings.HasPrefix(stdout, `{"ok":true,`) {
		t.Errorf("%q, %q, %s", stdout, stderr, code)
	}
	if stdout, _, code := c.run(`type C:\Orders\a.txt`, ""); stdout != "abc" || code != "0" {
		t.Errorf("%q, %s", stdout, code)
	}
	if _, stderr, code := c.run("powershell.exe Get-Service", ""); code != "1" || stderr == "" {
		t.Errorf("a script: %q, %s", stderr, code)
	}
}

// deployOrders puts the service's files on the drive and returns its command line.
func deployOrders(t *testing.T, h *Host, port int) string {
	t.Helper()
	program, err := orders.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(orders.Config{Port: port, Region: "north", Greeting: `said "hi"`})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{`C:\Orders\orders.exe`: binary, `C:\Orders\orders.json`: config} {
		path, err := h.Path(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return `"C:\Orders\orders.exe" C:\Orders\orders.json`
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing was sent
	return listener.Addr().(*net.TCPAddr).Port
}

func (c *client) service(name string) string {
	c.t.Helper()
	return c.ok(transfer+"Get", cimv2+"Win32_Service", selectors("Name", name), "")
}

func serviceLifeCycle(t *testing.T, h *Host) {
	c := newClient(t, h)
	port := freePort(t)
	line := deployOrders(t, h, port)
	one := selectors("Name", "orders")
	expect := func(want, method, selector string, parameters ...string) {
		t.Helper()
		if got, answer := c.invoke("Win32_Service", method, selector, parameters...); got != want {
			t.Fatalf("%s returned %s, want %s\n%s", method, got, want, answer)
		}
	}
	create := []string{"Name", "orders", "DisplayName", "Orders", "PathName", line, "ServiceType", "16", "ErrorControl", "1", "StartMode", "Manual"}
	expect("0", "Create", "", create...)
	expect("23", "Create", "", create...)
	expect("21", "Create", "", "Name", "x", "PathName", line, "StartMode", "Auto")
	expect("6", "StopService", one)
	expect("0", "ChangeStartMode", one, "StartMode", "Disabled")
	expect("14", "StartService", one)
	expect("0", "Change", one, "StartMode", "Automatic", "DisplayName", "Order service", "ServiceDependencies", "RpcSs")
	expect("0", "StartService", one)
	expect("10", "StartService", one)
	await(t, "the service to run", func() bool { return property(t, "State", c.service("ORDERS")) == "Running" })
	got := c.service("orders")
	for name, want := range map[string]string{"Name": "orders", "DisplayName": "Order service", "StartMode": "Auto", "Started": "true",
		"PathName": strings.ReplaceAll(line, `"`, "&#34;"), "StartName": "LocalSystem", "DelayedAutoStart": "false", "ExitCode": "0"} {
		if value := property(t, name, got); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	answerOrders(t, h, port, property(t, "ProcessId", got))
	serviceThroughSC(t, c)
	expect("0", "StopService", one)
	await(t, "the service to stop", func() bool { return property(t, "State", c.service("orders")) == "Stopped" })
	if pid := property(t, "ProcessId", c.service("orders")); pid != "0" {
		t.Errorf("a stopped service has PID %s", pid)
	}
	expect("0", "Delete", one)
	c.fault("2150858752", transfer+"Get", cimv2+"Win32_Service", one, "")
	events, err := h.Journal()
	if err != nil {
		t.Fatal(err)
	}
	var verbs []string
	for _, e := range events {
		verbs = append(verbs, e.Source+" "+e.Verb+" "+e.Name)
	}
	want := "cim create orders, cim change orders, cim change orders, cim start orders, sc change orders, sc change orders, cim stop orders, cim delete orders"
	if got := strings.Join(verbs, ", "); got != want {
		t.Errorf("journal: %s\nwant: %s", got, want)
	}
}

// answerOrders asks the service itself, and compares PID and start with CIM's.
func answerOrders(t *testing.T, h *Host, port int, pid string) {
	t.Helper()
	text, err := get(t.Context(), fmt.Sprintf("http://%s:%d/orders", h.Address(), port))
	var o orders.Orders
	if err := errors.Join(err, json.Unmarshal([]byte(text), &o)); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if o.Region != "north" || o.Greeting != `said "hi"` || fmt.Sprint(o.PID) != pid || len(o.Orders) != 2 {
		t.Errorf("%+v, want PID %s", o, pid)
	}
	if health, err := get(t.Context(), fmt.Sprintf("http://%s:%d/healthz", h.Address(), port)); health != "ok\n" || err != nil {
		t.Errorf("health: %q, %v", health, err)
	}
	process := newClient(t, h).query("SELECT Name, CommandLine, CreationDate FROM Win32_Process WHERE ProcessId = " + pid)
	created, err := time.Parse(time.RFC3339Nano, property(t, "CreationDate", process))
	if err != nil || property(t, "Name", process) != "orders.exe" {
		t.Fatalf("%v: %s", err, process)
	}
	started, err := time.Parse(time.RFC3339Nano, o.StartTime)
	if d := started.Sub(created); err != nil || d < -time.Second || d > 10*time.Second {
		t.Errorf("the process was created %s before it took a time: %v", d, err)
	}
}

// serviceThroughSC changes with sc.exe what CIM cannot, and finds it in both.
func serviceThroughSC(t *testing.T, c *client) {
	t.Helper()
	if _, stderr, code := c.run("sc.exe config orders start= delayed-auto", ""); code != "0" {
		t.Errorf("sc config: %s, %q", code, stderr)
	}
	if delayed := property(t, "DelayedAutoStart", c.service("orders")); delayed != "true" {
		t.Errorf("DelayedAutoStart is %s", delayed)
	}
	if _, _, code := c.run("sc.exe failure orders reset= 86400 actions= restart/5000/restart/5000//0", ""); code != "0" {
		t.Errorf("sc failure: %s", code)
	}
	if out, _, code := c.run("sc.exe qfailure orders", ""); code != "0" || strings.Count(out, "RESTART -- Delay = 5000") != 2 {
		t.Errorf("sc qfailure: %s, %s", code, out)
	}
	if out, _, code := c.run("sc.exe qc orders", ""); code != "0" || !strings.Contains(out, "DEPENDENCIES       : RpcSs\r\n") {
		t.Errorf("sc qc: %s, %s", code, out)
	}
}

func enumeration(t *testing.T, h *Host) {
	c := newClient(t, h)
	whole := c.query(`SELECT * FROM Win32_Service WHERE Name = "eventlog" OR Name = 'RpcSs'`)
	for _, shape := range []string{
		`<n:EnumerateResponse><n:EnumerationContext/><w:Items><p:Win32_Service xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:p="` + cimv2 + `Win32_Service" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xsi:type="p:Win32_Service_Type" xml:lang="en-US"><p:AcceptPause>`,
		`<p:InstallDate xsi:nil="true"/>`, `</p:Win32_Service></w:Items><w:EndOfSequence/></n:EnumerateResponse>`,
	} {
		if !strings.Contains(whole, shape) {
			t.Errorf("%s\nis not in\n%s", shape, whole)
		}
	}
	if n := strings.Count(whole, "</p:Win32_Service>"); n != 2 {
		t.Errorf("%d services", n)
	}
	fragment := c.query(`SELECT Name, State FROM Win32_Service WHERE Name = 'Eventlog'`)
	if want := `<w:Items><w:XmlFragment xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Name>Eventlog</Name><State>Running</State></w:XmlFragment></w:Items>`; !strings.Contains(fragment, want) {
		t.Errorf("%s\nis not in\n%s", want, fragment)
	}
	answer := c.ok(listing+"Enumerate", cimv2+"*", "", enumerate("SELECT Name FROM Win32_Service", 2))
	total := strings.Count(answer, "<w:XmlFragment ")
	for !strings.Contains(answer, "EndOfSequence") {
		next := first(t, `<n:EnumerationContext>([^<]+)<`, answer)
		answer = c.ok(listing+"Pull", cimv2+"*", "", "<n:Pull><n:EnumerationContext>"+next+"</n:EnumerationContext><n:MaxElements>5</n:MaxElements></n:Pull>")
		total += strings.Count(answer, "<w:XmlFragment ")
	}
	if services, err := h.Services(t.Context()); err != nil || len(services) != total {
		t.Errorf("%d services in pieces, want %d, %v", total, len(services), err)
	}
	answer = c.ok(listing+"Enumerate", cimv2+"Win32_Service", "", "<n:Enumerate/>")
	release := "<n:Release><n:EnumerationContext>" + first(t, `<n:EnumerationContext>([^<]+)<`, answer) + "</n:EnumerationContext></n:Release>"
	c.ok(listing+"Release", cimv2+"Win32_Service", "", release)
	c.fault("2150858779", listing+"Release", cimv2+"Win32_Service", "", release)
}

func faults(t *testing.T, h *Host) {
	c := newClient(t, h)
	c.fault("2150858778", listing+"Enumerate", cimv2+"*", "", enumerate("SELECT FROM", 1))
	c.fault("2150859003", listing+"Enumerate", cimv2+"Win32_Service", "", enumerate("SELECT * FROM Win32_Service", 1))
	c.fault("2150858752", listing+"Enumerate", cimv2+"*", "", enumerate("SELECT * FROM Win32_Nothing", 1))
	c.fault("2150859002", transfer+"Get", cimv2+"Win32_Service", "", "")
	c.fault("2150858753", cimv2+"Win32_Service/Explode", cimv2+"Win32_Service", "", "")
	answer := c.fault("2150858752", cimv2+"Win32_Service/StartService", cimv2+"Win32_Service", selectors("Name", "nowhere"), "")
	if !strings.Contains(answer, "<s:Subcode><s:Value>a:DestinationUnreachable</s:Value></s:Subcode>") {
		t.Error(answer)
	}
	if answer := first(t, `(?s)(.*)`, c.fault("2150858817", transfer+"Get", cimv2+"Win32_OperatingSystem", `<x:Strange xmlns:x="urn:x" s:mustUnderstand="true"/>`, "")); !strings.Contains(answer, "s:MustUnderstand") {
		t.Error(answer)
	}
}

func injections(t *testing.T, h *Host) {
	c := newClient(t, h)
	h.Inject(wsman.Injection{Action: "Get", Skip: 1, Trouble: wsman.Fail, Code: 1234})
	h.Inject(wsman.Injection{Action: "CreateKey", Trouble: wsman.DropAfter})
	h.Inject(wsman.Injection{Action: "DeleteKey", Trouble: wsman.DropBefore})
	defer h.Calm()
	c.ok(transfer+"Get", cimv2+"Win32_OperatingSystem", "", "")
	c.fault("1234", transfer+"Get", cimv2+"Win32_OperatingSystem", "", "")
	c.ok(transfer+"Get", cimv2+"Win32_OperatingSystem", "", "")
	body := func(method string) string {
		return "<p:" + method + `_INPUT xmlns:p="` + standard + `"><p:sSubKeyName>SOFTWARE\Dropped</p:sSubKeyName></p:` + method + "_INPUT>"
	}
	for _, method := range []string{"CreateKey", "DeleteKey"} {
		if status, _, err := c.post(standard+"/"+method, standard, "", body(method)); err == nil {
			t.Errorf("%s: a dropped connection has status %d", method, status)
		}
	}
	// The creation had its effect, the deletion had none: the key can be deleted now, once.
	if result, _ := c.invoke("StdRegProv", "DeleteKey", "", "sSubKeyName", `SOFTWARE\Dropped`); result != "0" {
		t.Errorf("DeleteKey returned %s", result)
	}
	h.Inject(wsman.Injection{Action: "Receive", Trouble: wsman.Flood, Times: 3})
	if out, _, code := c.run("echo end", ""); code != "0" || strings.Count(out, "flood\r\n") != 3*8192 || !strings.HasSuffix(out, "end\r\n") {
		t.Errorf("%d bytes, code %s", len(out), code)
	}
}

func reboot(t *testing.T, h *Host) {
	c := newClient(t, h)
	port := freePort(t)
	line := deployOrders(t, h, port)
	if result, answer := c.invoke("Win32_Service", "Create", "", "Name", "auto", "PathName", line, "StartMode", "Automatic"); result != "0" {
		t.Fatal(answer)
	}
	if err := h.Control(t.Context(), StartService, "auto"); err != nil {
		t.Fatal(err)
	}
	if err := h.Control(t.Context(), KillService, "auto"); err != nil {
		t.Fatal(err)
	}
	before := property(t, "LastBootUpTime", c.ok(transfer+"Get", cimv2+"Win32_OperatingSystem", "", ""))
	sh := c.openShell()
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := property(t, "LastBootUpTime", c.ok(transfer+"Get", cimv2+"Win32_OperatingSystem", "", "")); after <= before {
		t.Errorf("booted at %s, before that at %s", after, before)
	}
	c.fault("2150858843", shellURI+"/Command", shellURI+"/cmd", sh, "<rsp:CommandLine><rsp:Command>echo</rsp:Command></rsp:CommandLine>")
	await(t, "the automatic service", func() bool { return property(t, "State", c.service("auto")) == "Running" })
	if _, err := get(t.Context(), fmt.Sprintf("http://%s:%d/healthz", h.Address(), port)); err != nil {
		t.Error(err)
	}
	if err := h.Control(t.Context(), StopService, "auto"); err != nil {
		t.Fatal(err)
	}
	if result, _ := c.invoke("Win32_Service", "Delete", selectors("Name", "auto")); result != "0" {
		t.Errorf("Delete returned %s", result)
	}
}

// TestNamespace runs a host with an address of its own.
func TestNamespace(t *testing.T) {
	j := newJanitor(t)
	net, err := network.New(t.Context(), j)
	if err != nil {
		unavailable(t, err)
	}
	ns, err := net.Namespace(t.Context(), "win")
	if err != nil {
		t.Fatal(err)
	}
	h := boot(t, Options{Name: "WIN2", Janitor: j, Namespace: ns})
	if h.Address() != ns.Address().String() || h.Port() != 5986 {
		t.Errorf("the host is at %s port %d", h.Address(), h.Port())
	}
	c := newClient(t, h)
	line := deployOrders(t, h, 8080)
	if result, answer := c.invoke("Win32_Service", "Create", "", "Name", "orders", "PathName", line); result != "0" {
		t.Fatal(answer)
	}
	if err := h.Control(t.Context(), StartService, "orders"); err != nil {
		t.Fatal(err)
	}
	answerOrders(t, h, 8080, property(t, "ProcessId", c.service("orders")))
}
