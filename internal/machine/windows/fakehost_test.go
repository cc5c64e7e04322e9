package windows

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// fakeHost is a Windows host in memory: WMI as far as it is asked, a service
// control manager, and a disk. It records effects and can break the connection.
type fakeHost struct {
	t       *testing.T
	address netip.AddrPort

	mu       sync.Mutex
	disk     *fakeDisk
	services map[string]*fakeService // by lower-case name
	pid      int
	passing  int // the process that is there for one more look
	boot     time.Time
	effects  []string // "create orders", "start orders", ...
	calls    []string // every request
	scripts  int      // starts of PowerShell
	running  []*fakeProcess
	// given is what scripts were given as environment, by the step's wrapper.
	given map[string]string
	// aside are locked files that deliver may move out of the way, as it does.
	aside map[string]bool
	// web is what curl.exe finds, by URL; nil: there is no curl.exe.
	web map[string]string

	// breakAt breaks the connection at the call with this number (from 1);
	// after its effect if late.
	breakAt int
	late    bool
	broken  bool
	// unreachable breaks it before a request rather than in it.
	unreachable bool
	// fault is answered to calls whose description has its prefix.
	fault map[string]*winrm.Fault
	// hook is called before each request.
	hook func(call string)
}

type fakeService struct {
	name, path, display, description, mode, state string
	delayed, marked                               bool
	pid                                           int
	created                                       time.Time
	// lingers is how many looks the process outlives the stop; pending how many
	// looks a state is pending; held keeps a deleted service for some looks.
	lingers, pending, held int
	next                   string
	crashes                bool
}

func newFakeHost(t *testing.T) *fakeHost {
	return &fakeHost{
		t: t, address: netip.MustParseAddrPort("127.0.0.1:5986"), disk: newFakeDisk(), services: map[string]*fakeService{},
		pid: 4000, boot: time.Unix(1_749_000_000, 0), fault: map[string]*winrm.Fault{},
		given: map[string]string{}, aside: map[string]bool{},
	}
}

// machine is a new machine for the host, as a new operator makes it.
func (h *fakeHost) machine() *Machine {
	h.mu.Lock()
	h.broken, h.breakAt = false, 0
	h.mu.Unlock()
	m, err := New(h, Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	m.poll, m.moment, m.patient, m.held = time.Microsecond, time.Minute, time.Minute, time.Minute
	return m
}

func (h *fakeHost) Address() netip.AddrPort { return h.address }
func (h *fakeHost) Close() error            { return nil }

// call brackets a request: it may break before or after the effect.
func (h *fakeHost) call(ctx context.Context, what string, effect func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lost error = &transport.LostError{Doing: what, Err: io.ErrUnexpectedEOF}
	if h.unreachable {
		lost = &transport.UnreachableError{Address: h.address.String(), Err: io.ErrUnexpectedEOF}
	}
	if ctx.Err() != nil {
		return &transport.LostError{Doing: what, Err: context.Cause(ctx)}
	}
	if h.broken {
		return lost
	}
	if h.hook != nil {
		h.mu.Unlock()
		h.hook(what)
		h.mu.Lock()
	}
	h.calls = append(h.calls, what)
	for prefix, fault := range h.fault {
		if strings.HasPrefix(what, prefix) {
			return fault
		}
	}
	h.broken = h.breakAt > 0 && len(h.calls) == h.breakAt
	if h.broken && !h.late {
		return lost
	}
	if err := effect(); err != nil {
		return err
	}
	if h.broken {
		return lost
	}
	return nil
}

func (h *fakeHost) did(effect string) { h.effects = append(h.effects, effect) }

func (h *fakeHost) count(effect string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, done := range h.effects {
		if done == effect {
			n++
		}
	}
	return n
}

func (h *fakeHost) callCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls)
}

var (
	wqlShape = regexp.MustCompile(`^SELECT ([A-Za-z,]+) FROM (\w+)(?: WHERE (.+))?$`)
	wqlTerm  = regexp.MustCompile(`^(\w+)=(?:(\d+)|'((?:[^'\\]|\\.)*)')(?: OR |$)`)
	wqlPath  = regexp.MustCompile(`^Drive='(\w:)' AND Path='((?:[^'\\]|\\.)*)'$`)
)

func (h *fakeHost) Query(ctx context.Context, namespace, wql string) (found []winrm.Instance, err error) {
	m := wqlShape.FindStringSubmatch(wql)
	if m == nil || namespace != cimv2 {
		h.t.Errorf("query %q", wql)
		return nil, errors.New("bad query")
	}
	wanted, folder := map[string]bool{}, ""
	if path := wqlPath.FindStringSubmatch(m[3]); path != nil {
		folder = key(path[1] + strings.ReplaceAll(path[2], `\\`, `\`))
	} else {
		wanted = h.terms(m[3])
	}
	err = h.call(ctx, "query "+m[2], func() error {
		for _, row := range h.rows(m[2]) {
			if folder != "" && row.key[:strings.LastIndexByte(row.key, '\\')+1] != folder {
				continue
			}
			if folder == "" && m[3] != "" && !wanted[row.key] {
				continue
			}
			instance := winrm.Instance{}
			for column := range strings.SplitSeq(m[1], ",") {
				value, known := row.values[column]
				if !known {
					h.t.Errorf("%s has no column %s here", m[2], column)
				}
				instance[column] = []string{value}
			}
			found = append(found, instance)
		}
		return nil
	})
	return found, err
}

// terms are the values that a query asks for.
func (h *fakeHost) terms(where string) map[string]bool {
	wanted := map[string]bool{}
	for where != "" {
		m := wqlTerm.FindStringSubmatch(where)
		if m == nil {
			h.t.Errorf("condition %q", where)
			return wanted
		}
		value := regexp.MustCompile(`\\(.)`).ReplaceAllString(m[3], "$1")
		wanted[strings.ToLower(m[2]+value)] = true
		where = where[len(m[0]):]
	}
	return wanted
}

type row struct {
	key    string
	values map[string]string
}

func (h *fakeHost) rows(class string) (rows []row) {
	date := func(t time.Time) string { return t.In(time.FixedZone("", 3600)).Format(time.RFC3339Nano) }
	switch class {
	case "Win32_OperatingSystem":
		rows = append(rows, row{values: map[string]string{
			"Caption": "Microsoft Windows Server 2022 Standard", "Version": "10.0.20348", "LastBootUpTime": date(h.boot), "LocalDateTime": date(h.disk.now),
		}})
	case "Win32_ComputerSystem":
		rows = append(rows, row{values: map[string]string{
			"Name": "ORDERS01", "SystemType": "x64-based PC", "NumberOfLogicalProcessors": "4", "TotalPhysicalMemory": "8589934592",
		}})
	case "CIM_DataFile":
		for name, file := range h.disk.files {
			rows = append(rows, row{key: name, values: map[string]string{
				"Name": name, "FileSize": strconv.Itoa(len(file.content)), "LastModified": date(file.modified),
			}})
		}
	case "Win32_Directory":
		for name := range h.disk.dirs {
			rows = append(rows, row{key: name, values: map[string]string{"Name": name}})
		}
	case "Win32_Process":
		process := func(pid, parent int, created time.Time, line string) {
			rows = append(rows, row{key: strconv.Itoa(pid), values: map[string]string{
				"ProcessId": strconv.Itoa(pid), "ParentProcessId": strconv.Itoa(parent), "CreationDate": date(created), "CommandLine": line,
			}})
		}
		if h.passing != 0 {
			process(h.passing, 4, h.boot, "sc.exe")
			h.passing = 0
		}
		h.passScripts()
		for _, p := range h.running {
			process(p.pid, p.parent, p.created, p.line)
		}
		for _, s := range h.services {
			if s.pid != 0 {
				process(s.pid, 4, s.created, s.path)
			}
			if s.state == stopped && s.pid != 0 {
				if s.lingers--; s.lingers < 0 {
					s.pid = 0
				}
			}
		}
	case "Win32_Service":
		for name, s := range h.services {
			h.pass(name, s)
			if h.services[name] != nil {
				rows = append(rows, s.row())
			}
		}
	default:
		h.t.Errorf("class %s", class)
	}
	return rows
}

// pass lets a pending state end, and a marked service go.
func (h *fakeHost) pass(name string, s *fakeService) {
	if s.marked {
		if s.held--; s.held < 0 {
			delete(h.services, name)
		}
		return
	}
	if s.next == "" {
		return
	}
	if s.pending--; s.pending < 0 {
		s.state, s.next = s.next, ""
		if s.crashes && s.state == running {
			s.state, s.pid = stopped, 0
		}
	}
}

func (s *fakeService) row() row {
	mode := map[string]string{automatic: "Auto"}[s.mode]
	if mode == "" {
		mode = s.mode
	}
	pid := s.pid
	if s.state == stopped {
		pid = 0
	}
	return row{key: strings.ToLower(s.name), values: map[string]string{
		"Name": s.name, "State": s.state, "StartMode": mode, "DelayedAutoStart": strconv.FormatBool(s.delayed), "DisplayName": s.display,
		"Description": s.description, "PathName": s.path, "StartName": "LocalSystem", "ProcessId": strconv.Itoa(pid), "ExitCode": "0",
		"ServiceSpecificExitCode": "0", "ServiceType": "Own Process",
	}}
}

func (h *fakeHost) Invoke(ctx context.Context, _, class string, keys map[string]string, method string, params []winrm.Param) (out winrm.Instance, err error) {
	values := map[string]string{}
	for _, p := range params {
		values[p.Name] = p.Values[0]
	}
	err = h.call(ctx, "invoke "+method, func() error {
		code, pid := 0, 0
		switch {
		case class == "Win32_Process" && method == "Terminate":
			code = h.terminate(keys["Handle"])
		case class == "Win32_Process":
			pid = h.process(values["CommandLine"])
		default:
			name := keys["Name"]
			if method == create {
				if keys != nil {
					h.t.Errorf("Create is a method of the class, and got keys %v", keys)
				}
				name = values["Name"]
			}
			code = h.scm(name, method, values)
		}
		out = winrm.Instance{"ReturnValue": {strconv.Itoa(code)}, "ProcessId": {strconv.Itoa(pid)}}
		return nil
	})
	return out, err
}

// process is a process that WMI creates: sc.exe, for one look.
func (h *fakeHost) process(line string) int {
	if m := wrapperLine.FindStringSubmatch(line); m != nil {
		return h.startScript(m[1], m[2], line)
	}
	arguments := splitArguments(line)
	if len(arguments) != 4 || arguments[0] != "sc.exe" || arguments[1] != "description" || h.services[strings.ToLower(arguments[2])] == nil {
		h.t.Errorf("process %q", line)
		return 0
	}
	h.services[strings.ToLower(arguments[2])].description = arguments[3]
	h.did("describe " + arguments[2])
	h.pid++
	h.passing = h.pid
	return h.pid
}

func (h *fakeHost) scm(name, method string, values map[string]string) int {
	s := h.services[strings.ToLower(name)]
	if method == create {
		if s != nil {
			if s.marked {
				return returnMarkedForDeletion
			}
			return returnExists
		}
		h.services[strings.ToLower(name)] = &fakeService{
			name: values["Name"], path: values["PathName"], display: values["DisplayName"], mode: values["StartMode"], state: stopped,
		}
		h.did("create " + name)
		return 0
	}
	if s == nil {
		h.t.Errorf("%s of %s, which is not there", method, name)
		return 1
	}
	switch method {
	case "Change":
		s.path = or(values["PathName"], s.path)
		s.display = or(values["DisplayName"], s.display)
		s.mode = or(values["StartMode"], s.mode)
	case "StartService":
		if s.state != stopped || s.next != "" {
			return returnAlreadyRunning
		}
		h.pid++
		h.disk.now = h.disk.now.Add(time.Second)
		s.state, s.next, s.pid, s.created = startPending, running, h.pid, h.disk.now
	case "StopService":
		if s.state == stopped {
			return returnNotActive
		}
		if s.next != "" {
			return returnCannotAcceptControl
		}
		s.state, s.next = "Stop Pending", stopped
	case "Delete":
		if s.marked {
			return returnMarkedForDeletion
		}
		s.marked = true
	default:
		h.t.Errorf("method %s", method)
	}
	h.did(strings.ToLower(strings.TrimSuffix(method, "Service")) + " " + name)
	return 0
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var scConfig = regexp.MustCompile(`^sc\.exe config "([^"]+)" start= (auto|delayed-auto)$`)

func (h *fakeHost) Run(ctx context.Context, r winrm.Request) (result winrm.Result, err error) {
	what := "run " + r.Command
	encoded, powershell := strings.CutPrefix(r.Command, "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand ")
	script := ""
	if powershell {
		script = decodeScript(encoded)
		what = "run " + strings.SplitN(script, "\n", 2)[0]
	}
	if h.hangs(r.Command) {
		<-ctx.Done()
		return winrm.Result{}, &transport.LostError{Doing: "run a command", Err: context.Cause(ctx)}
	}
	err = h.call(ctx, what, func() error {
		if powershell {
			h.scripts++
			result = h.powershell(script, r.Stdin)
			return nil
		}
		if r.Command == curlLine {
			result = h.curl(r.Stdin)
			return nil
		}
		if m := scConfig.FindStringSubmatch(r.Command); m != nil {
			s := h.services[strings.ToLower(m[1])]
			s.mode, s.delayed = automatic, m[2] == "delayed-auto"
			h.did("sc " + m[2])
			return nil
		}
		if len(r.Command) > maxLine {
			h.t.Errorf("a line of %d characters", len(r.Command))
		}
		stdout, code, err := h.disk.run(r.Command)
		if err != nil {
			h.t.Error(err)
		}
		result = winrm.Result{ExitCode: uint32(code), Stdout: []byte(stdout)}
		return nil
	})
	return result, err
}

func decodeScript(encoded string) string {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for i := 0; i+1 < len(raw); i += 2 {
		text.WriteRune(rune(raw[i]) | rune(raw[i+1])<<8)
	}
	return text.String()
}

// powershell stands in for the two scripts, by their first line.
func (h *fakeHost) powershell(script string, stdin io.Reader) winrm.Result {
	lines := bufio.NewScanner(stdin)
	lines.Buffer(nil, 1<<20)
	var out strings.Builder
	switch strings.SplitN(script, "\n", 2)[0] {
	case "# isthmus:hash v1":
		for lines.Scan() {
			var asked struct{ Path string }
			json.Unmarshal(lines.Bytes(), &asked)
			answer := map[string]any{"path": asked.Path, "exists": false}
			if file := h.disk.files[key(asked.Path)]; file != nil {
				answer["exists"], answer["sha256"], answer["size"] = true, digest(file.content), len(file.content)
			}
			line, _ := json.Marshal(answer)
			out.WriteString(string(line) + "\n")
		}
	case "# isthmus:deliver v2":
		return h.deliver(lines)
	case "# isthmus:ends v1":
		return h.ends(lines)
	default:
		h.t.Errorf("script %q", script)
	}
	return winrm.Result{Stdout: []byte(out.String())}
}

func (h *fakeHost) deliver(lines *bufio.Scanner) winrm.Result {
	refuse := func(code, text string) winrm.Result {
		return winrm.Result{ExitCode: 1, Stdout: fmt.Appendf(nil, `{"ok":false,"error":%q,"code":%q}`, text, code)}
	}
	var header struct {
		Path, SHA256, From string
		Size               int
	}
	lines.Scan()
	json.Unmarshal(lines.Bytes(), &header)
	var content strings.Builder
	for lines.Scan() {
		part, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			h.t.Errorf("a line is not base64 by itself: %v", err)
		}
		content.Write(part)
	}
	if header.From != "" {
		from := h.disk.files[key(header.From)]
		if from == nil {
			return refuse("NotFound", "could not find the file")
		}
		content.WriteString(from.content)
	}
	switch {
	case h.disk.full:
		return refuse("DiskFull", "there is not enough space on the disk")
	case digest(content.String()) != header.SHA256 || header.Size >= 0 && content.Len() != header.Size:
		return refuse("HashMismatch", "digest")
	case h.disk.locked[key(header.Path)] && !h.aside[key(header.Path)]:
		return refuse("InUse", "used by another process")
	}
	aside := h.disk.locked[key(header.Path)]
	if aside {
		old := header.Path + ".old-" + digest(content.String())[:8]
		h.disk.write(old, h.disk.files[key(header.Path)].content)
		delete(h.disk.locked, key(header.Path))
		h.disk.locked[key(old)] = true
	}
	h.disk.write(header.Path, content.String())
	delete(h.disk.files, key(header.From))
	h.did("deliver " + header.Path)
	return winrm.Result{Stdout: fmt.Appendf(nil, `{"ok":true,"sha256":"%s","size":%d,"aside":%t}`+"\r\n", header.SHA256, content.Len(), aside)}
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func put(path, content string) machine.PutFile {
	return machine.PutFile{Path: path, Content: machine.Secret(content), SHA256: digest(content)}
}
