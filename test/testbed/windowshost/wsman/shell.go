package wsman

import (
	"encoding/base64"
	"encoding/xml"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Shell is what a client asked for when it made a shell.
type Shell struct {
	// Dir is the working directory, "" for the user's profile.
	Dir string
	// Environment is name, value, name, value.
	Environment []string
	CodePage    string
	// Direct is true for a command that is run without cmd.exe.
	Direct bool
}

// shells are the open ones.
type shells struct {
	mu   sync.Mutex
	open map[string]*shell
}

type shell struct {
	id       string
	settings Shell
	commands map[string]*command // guarded by the lock of shells
	taken    int                 // commands so far; guarded alike
}

func (t *shells) find(id string) *shell {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[strings.ToUpper(id)]
}

func (t *shells) count() (open, commands int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sh := range t.open {
		commands += len(sh.commands)
	}
	return len(t.open), commands
}

// add keeps a shell if there are fewer than limit.
func (t *shells) add(sh *shell, limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= limit {
		return false
	}
	if t.open == nil {
		t.open = map[string]*shell{}
	}
	t.open[strings.ToUpper(sh.id)] = sh
	return true
}

// remove takes a shell out and ends its commands; false if there is none.
func (t *shells) remove(id string) bool {
	t.mu.Lock()
	sh := t.open[strings.ToUpper(id)]
	delete(t.open, strings.ToUpper(id))
	t.mu.Unlock()
	if sh == nil {
		return false
	}
	for _, c := range sh.commands {
		c.end()
	}
	return true
}

func (t *shells) closeAll() {
	t.mu.Lock()
	all := t.open
	t.open = nil
	t.mu.Unlock()
	for _, sh := range all {
		for _, c := range sh.commands {
			c.end()
		}
	}
}

// dispatchShell performs the actions on shells (MS-WSMV 3.1.4).
func (s *Server) dispatchShell(r *http.Request, request *envelope) ([]byte, error) {
	if request.Header.Action == actionCreate {
		return s.createShell(r, request)
	}
	id := request.Header.selectors()["ShellId"]
	sh := s.shells.find(id)
	if sh == nil {
		return nil, InvalidSelectors()
	}
	switch request.Header.Action {
	case actionDelete:
		if !s.shells.remove(id) {
			return nil, InvalidSelectors()
		}
		return newReply(actionDelete+"Response", request.Header.MessageID).end(), nil
	case actionCommand:
		return s.startCommand(sh, request)
	case actionSend:
		return s.send(sh, request)
	case actionReceive:
		return s.receive(r, sh, request)
	case actionSignal:
		return s.signal(sh, request)
	}
	return nil, UnknownMethod()
}

func (s *Server) createShell(r *http.Request, request *envelope) ([]byte, error) {
	asked := request.content("Shell")
	if asked == nil {
		return nil, invalidParameter()
	}
	sh := &shell{id: asked.attr("ShellId"), commands: map[string]*command{}}
	if sh.id == "" {
		sh.id = newID()
	}
	sh.settings = Shell{Dir: asked.child("WorkingDirectory").text(), CodePage: request.Header.option("WINRS_CODEPAGE")}
	if environment := asked.child("Environment"); environment != nil {
		for _, variable := range environment.Children {
			sh.settings.Environment = append(sh.settings.Environment, variable.attr("Name"), variable.Text)
		}
	}
	if !s.shells.add(sh, s.limits.MaxShellsPerUser) {
		return nil, &Fault{Code: CodeMaxShells, Role: receiver, Subcode: "w:QuotaLimit",
			Message: "The WS-Management service cannot process the request. This user is allowed a maximum number of " +
				strconv.Itoa(s.limits.MaxShellsPerUser) + " concurrent shells, which has been exceeded. Close existing shells or raise the quota for this user. "}
	}
	s.count(func(c *Counters) { c.Shells++ })
	return s.created(r, request, sh), nil
}

// created is the answer to Create, as in recorded exchanges with Windows.
func (s *Server) created(r *http.Request, request *envelope, sh *shell) []byte {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	a := newReply(actionCreate+"Response", request.Header.MessageID)
	a.WriteString("<x:ResourceCreated>")
	a.element("a:Address", request.Header.To)
	a.WriteString("<a:ReferenceParameters>")
	a.element("w:ResourceURI", resourceShell)
	a.WriteString(`<w:SelectorSet><w:Selector Name="ShellId">` + escape(sh.id) + `</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell>`)
	for _, pair := range [][2]string{
		{"ShellId", sh.id}, {"ResourceUri", resourceShell}, {"Owner", s.options.Machine + `\` + s.options.User}, {"ClientIP", client},
		{"IdleTimeOut", "PT7200.000S"}, {"InputStreams", "stdin"}, {"OutputStreams", "stdout stderr"},
		{"ShellRunTime", "P0DT0H0M0S"}, {"ShellInactivity", "P0DT0H0M0S"},
	} {
		a.element("rsp:"+pair[0], pair[1])
	}
	a.WriteString("</rsp:Shell>")
	return a.end()
}

// escape is a text for XML.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a builder takes everything
	return b.String()
}

func (s *Server) startCommand(sh *shell, request *envelope) ([]byte, error) {
	asked := request.content("CommandLine")
	if asked == nil {
		return nil, invalidParameter()
	}
	line := asked.child("Command").text()
	for _, child := range asked.Children {
		if child.XMLName.Local == "Arguments" {
			line += " " + child.Text
		}
	}
	id := asked.attr("CommandId")
	if id == "" {
		id = newID()
	}
	s.shells.mu.Lock()
	defer s.shells.mu.Unlock()
	for _, other := range sh.commands {
		if !other.reported() {
			return nil, &Fault{Code: CodeBusy, Role: receiver, Subcode: "w:InternalError", Message: "The requested resource is in use. "}
		}
	}
	if s.limits.MaxOperationsPerShell > 0 && sh.taken >= s.limits.MaxOperationsPerShell {
		return nil, &Fault{Code: CodeMaxOperations, Role: receiver, Subcode: "w:QuotaLimit",
			Message: "The WS-Management service cannot process the request. The maximum number of concurrent operations for this user has been exceeded. "}
	}
	sh.taken++
	settings := sh.settings
	settings.Direct = strings.EqualFold(request.Header.option("WINRS_SKIP_CMD_SHELL"), "TRUE")
	program, err := s.options.Programs.Run(settings, line)
	if err != nil {
		return nil, err
	}
	sh.commands[strings.ToUpper(id)] = newCommand(id, program)
	s.count(func(c *Counters) { c.Commands++ })
	a := newReply(actionCommand+"Response", request.Header.MessageID)
	a.WriteString("<rsp:CommandResponse>")
	a.element("rsp:CommandId", id)
	a.WriteString("</rsp:CommandResponse>")
	return a.end(), nil
}

// commandOf finds the command that a stream of the request names.
func (s *Server) commandOf(sh *shell, id string) (*command, error) {
	if id == "" {
		return nil, invalidParameter()
	}
	s.shells.mu.Lock()
	defer s.shells.mu.Unlock()
	if c := sh.commands[strings.ToUpper(id)]; c != nil {
		return c, nil
	}
	return nil, InvalidSelectors()
}

func (s *Server) send(sh *shell, request *envelope) ([]byte, error) {
	asked := request.content("Send")
	if asked == nil {
		return nil, invalidParameter()
	}
	for _, stream := range asked.Children {
		c, err := s.commandOf(sh, stream.attr("CommandId"))
		if err != nil {
			return nil, err
		}
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(stream.Text), ""))
		if err != nil || stream.attr("Name") != "stdin" {
			return nil, invalidParameter()
		}
		taken := c.write(data, request.Header.timeout(s.limits.MaxTimeout))
		if strings.EqualFold(stream.attr("End"), "true") {
			c.closeInput()
		}
		if !taken {
			return nil, operationTimeout()
		}
	}
	a := newReply(actionSend+"Response", request.Header.MessageID)
	a.WriteString("<rsp:SendResponse/>")
	return a.end(), nil
}

func (s *Server) receive(r *http.Request, sh *shell, request *envelope) ([]byte, error) {
	c, err := s.commandOf(sh, request.content("Receive").child("DesiredStream").attr("CommandId"))
	if err != nil {
		return nil, err
	}
	// What is left of the envelope for streams: base64 makes four bytes of three.
	room := (request.Header.maxEnvelope(s.limits.MaxEnvelopeSizeKB<<10) - 4096) / 4 * 3
	got, ok := c.read(r.Context(), room, request.Header.timeout(s.limits.MaxTimeout))
	if !ok {
		return nil, operationTimeout()
	}
	return got.envelope(request, c.id), nil
}

func (s *Server) signal(sh *shell, request *envelope) ([]byte, error) {
	asked := request.content("Signal")
	c, err := s.commandOf(sh, asked.attr("CommandId"))
	if err != nil {
		return nil, err
	}
	c.end()
	if asked.child("Code").text() == signalTerminate {
		s.shells.mu.Lock()
		delete(sh.commands, strings.ToUpper(c.id))
		s.shells.mu.Unlock()
	}
	a := newReply(actionSignal+"Response", request.Header.MessageID)
	a.WriteString("<rsp:SignalResponse/>")
	return a.end(), nil
}
