package winrm

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //nolint:staticcheck // NTLM is made of it
)

const (
	testUser     = "Operator"
	testPassword = "pässword <&>"
)

// fakeHost is an HTTPS server that answers WS-Management requests by script. It
// checks credentials in the way that its mode says.
type fakeHost struct {
	t      *testing.T
	server *httptest.Server
	mode   string
	// answer scripts the host; it gets the action's last part and the Body.
	answer func(r *asked) (status int, reply string)

	mu          sync.Mutex
	asked       []*asked
	logins      int // credentials that were checked
	connections int
	open, most  int // requests at work now, and at most
	forget      bool
}

// asked is one request.
type asked struct {
	action  string
	header  *node
	body    *node
	size    int64
	chunked bool
	host    *fakeHost
	ctx     context.Context
}

type connectionKey struct{}

// connection is what NTLM knows of a TCP connection.
type connection struct {
	mu            sync.Mutex
	challenge     []byte
	authenticated bool
}

func newFakeHost(t *testing.T, mode string, answer func(r *asked) (int, string)) *fakeHost {
	t.Helper()
	h := &fakeHost{t: t, mode: mode, answer: answer}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(h.serve))
	h.server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		h.mu.Lock()
		h.connections++
		h.mu.Unlock()
		return context.WithValue(ctx, connectionKey{}, &connection{})
	}
	h.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	return h
}

func (h *fakeHost) config() Config {
	roots := x509.NewCertPool()
	roots.AddCert(h.server.Certificate())
	return Config{
		Address: h.server.Listener.Addr().String(), ServerName: "example.com", Roots: roots,
		Username: testUser, Password: testPassword, Authentication: h.mode, OperationTimeout: 2 * time.Second,
	}
}

// dial reaches the host and closes the client at the end of the test.
func (h *fakeHost) dial() *Client {
	h.t.Helper()
	c, err := Dial(h.t.Context(), h.config())
	if err != nil {
		h.t.Fatalf("dial: %v", err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

func (h *fakeHost) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !h.authorized(w, r) {
		return
	}
	if len(body) == 0 {
		return
	}
	h.mu.Lock()
	h.open++
	h.most = max(h.most, h.open)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.open--
		h.mu.Unlock()
	}()
	request := h.parse(body)
	request.size, request.chunked, request.ctx = r.ContentLength, len(r.TransferEncoding) > 0, r.Context()
	h.mu.Lock()
	h.asked = append(h.asked, request)
	h.mu.Unlock()
	status, reply := http.StatusOK, identified
	if request.action != "Identify" {
		status, reply = h.answer(request)
	}
	w.Header().Set("Content-Type", "application/soap+xml;charset=UTF-8")
	if status == http.StatusFound {
		w.Header().Set("Location", reply)
	}
	w.WriteHeader(status)
	io.WriteString(w, reply)
}

func (h *fakeHost) parse(data []byte) *asked {
	root, err := parseNode(data)
	if err != nil {
		h.t.Errorf("a request is not XML: %v", err)
		return &asked{host: h}
	}
	r := &asked{header: root.child("Header"), body: root.child("Body"), host: h}
	action := r.header.child("Action").value()
	r.action = action[strings.LastIndexByte(action, '/')+1:]
	if r.body.child("Identify") != nil {
		r.action = "Identify"
	}
	return r
}

// count is how many requests with an action have come.
func (h *fakeHost) count(action string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.asked {
		if r.action == action {
			n++
		}
	}
	return n
}

func (h *fakeHost) loginCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.logins
}

func (h *fakeHost) authorized(w http.ResponseWriter, r *http.Request) bool {
	if h.mode == Basic {
		user, password, given := r.BasicAuth()
		if given {
			h.mu.Lock()
			h.logins++
			h.mu.Unlock()
		}
		if given && user == testUser && password == testPassword {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="WSMAN"`)
		w.WriteHeader(http.StatusUnauthorized)
		return false
	}
	return h.authorizedNTLM(w, r)
}

func (h *fakeHost) authorizedNTLM(w http.ResponseWriter, r *http.Request) bool {
	c := r.Context().Value(connectionKey{}).(*connection)
	c.mu.Lock()
	defer c.mu.Unlock()
	h.mu.Lock()
	forget := h.forget
	h.forget = false
	h.mu.Unlock()
	if forget {
		c.authenticated = false
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	message, _ := base64.StdEncoding.DecodeString(token)
	switch {
	case token == "" && c.authenticated:
		return true
	case scheme == "Negotiate" && len(message) > 12 && message[8] == 1:
		c.challenge = []byte("8 random")
		challenge := base64.StdEncoding.EncodeToString(challengeMessage(c.challenge))
		w.Header().Add("WWW-Authenticate", "Negotiate "+challenge)
	case len(message) > 64 && message[8] == 3 && c.challenge != nil:
		h.mu.Lock()
		h.logins++
		h.mu.Unlock()
		if err := checkProof(message, c.challenge, h.server.Certificate()); err == nil {
			c.authenticated = true
			return true
		}
		w.Header().Add("WWW-Authenticate", "Negotiate")
	default:
		w.Header().Add("WWW-Authenticate", "Negotiate")
		w.Header().Add("WWW-Authenticate", "Kerberos")
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

// challengeMessage is a CHALLENGE_MESSAGE as Windows sends it (MS-NLMP 2.2.1.2).
func challengeMessage(challenge []byte) []byte {
	pair := func(id uint16, value []byte) []byte {
		header := binary.LittleEndian.AppendUint16(nil, id)
		return append(binary.LittleEndian.AppendUint16(header, uint16(len(value))), value...)
	}
	stamp := binary.LittleEndian.AppendUint64(nil, 133_000_000_000_000_000)
	info := slicesConcat(pair(2, utf16le("HOST")), pair(1, utf16le("HOST")), pair(7, stamp), pair(0, nil))
	name := utf16le("HOST")
	const header = 56
	m := []byte("NTLMSSP\x00")
	m = binary.LittleEndian.AppendUint32(m, 2)
	field := func(length, offset int) {
		m = binary.LittleEndian.AppendUint16(m, uint16(length))
		m = binary.LittleEndian.AppendUint16(m, uint16(length))
		m = binary.LittleEndian.AppendUint32(m, uint32(offset))
	}
	field(len(name), header)
	m = binary.LittleEndian.AppendUint32(m, 0xe28a8235)
	m = append(m, challenge...)
	m = append(m, make([]byte, 8)...)
	field(len(info), header+len(name))
	m = append(m, 10, 0, 0x7c, 0x4f, 0, 0, 0, 15)
	return slicesConcat(m, name, info)
}

func slicesConcat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func utf16le(text string) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return out
}

func hmacMD5(key, data []byte) []byte {
	sum := hmac.New(md5.New, key)
	sum.Write(data)
	return sum.Sum(nil)
}

// checkProof checks an AUTHENTICATE_MESSAGE: NTLMv2 and the channel bindings.
func checkProof(m, challenge []byte, certificate *x509.Certificate) error {
	field := func(at int) []byte {
		length := int(binary.LittleEndian.Uint16(m[at:]))
		offset := int(binary.LittleEndian.Uint32(m[at+4:]))
		return m[offset : offset+length]
	}
	response, domain, user := field(20), field(28), field(36)
	if !bytes.Equal(user, utf16le(testUser)) {
		return fmt.Errorf("user %x", user)
	}
	hash := md4.New()
	hash.Write(utf16le(testPassword))
	key := hmacMD5(hash.Sum(nil), append(utf16le(strings.ToUpper(testUser)), domain...))
	if !hmac.Equal(response[:16], hmacMD5(key, append(bytes.Clone(challenge), response[16:]...))) {
		return fmt.Errorf("wrong password")
	}
	sum := sha256.Sum256(certificate.Raw)
	application := append([]byte("tls-server-end-point:"), sum[:]...)
	structure := make([]byte, 16)
	structure = binary.LittleEndian.AppendUint32(structure, uint32(len(application)))
	want := md5.Sum(append(structure, application...))
	if !bytes.Contains(response, want[:]) {
		return fmt.Errorf("no channel bindings")
	}
	return nil
}

// The shapes below are those of recorded answers of Windows Server: prefixes,
// order and the namespaces that vary between operations.
const identified = `<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body>` +
	`<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">` +
	`<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>` +
	`<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor><wsmid:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: 3.0</wsmid:ProductVersion>` +
	`</wsmid:IdentifyResponse></s:Body></s:Envelope>`

func reply(body string) string {
	return `<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" ` +
		`xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration" ` +
		`xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell" ` +
		`xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"><s:Header>` +
		`<a:MessageID>uuid:6DCE8848-4531-44EC-ACC4-4DBB68B1CC29</a:MessageID></s:Header><s:Body>` + body + `</s:Body></s:Envelope>`
}

func fault(code uint32, subcode, text string) (int, string) {
	return http.StatusInternalServerError, reply(fmt.Sprintf(
		`<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>%s</s:Value></s:Subcode></s:Code>`+
			`<s:Reason><s:Text xml:lang="en-US">%s </s:Text></s:Reason><s:Detail>`+
			`<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%d" Machine="127.0.0.1"><f:Message>`+
			`<f:ProviderFault provider="Shell cmd plugin" path="%%systemroot%%\system32\winrscmd.dll">%s </f:ProviderFault></f:Message></f:WSManFault>`+
			`</s:Detail></s:Fault>`, subcode, text, code, text))
}

func createdShell(id string) (int, string) {
	return http.StatusOK, reply(`<x:ResourceCreated><a:Address>https://127.0.0.1:5986/wsman</a:Address><a:ReferenceParameters>` +
		`<w:ResourceURI>http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd</w:ResourceURI>` +
		`<w:SelectorSet><w:Selector Name="ShellId">` + id + `</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>` +
		`<rsp:Shell><rsp:ShellId>` + id + `</rsp:ShellId><rsp:Owner>operator</rsp:Owner><rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut></rsp:Shell>`)
}

// received is an answer to Receive; code < 0 leaves the command running.
func received(command, stdout, stderr string, code int64) (int, string) {
	stream := func(name, text string) string {
		return fmt.Sprintf(`<rsp:Stream Name="%s" CommandId="%s">%s</rsp:Stream>`, name, command, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	body := `<rsp:ReceiveResponse>` + stream("stdout", stdout) + stream("stderr", stderr)
	const states = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/"
	if code < 0 {
		body += fmt.Sprintf(`<rsp:CommandState CommandId="%s" State="%sRunning"/>`, command, states)
	} else {
		body += fmt.Sprintf(`<rsp:Stream Name="stdout" CommandId="%s" End="true"></rsp:Stream><rsp:Stream Name="stderr" CommandId="%s" End="true"></rsp:Stream>`, command, command)
		body += fmt.Sprintf(`<rsp:CommandState CommandId="%s" State="%sDone"><rsp:ExitCode>%d</rsp:ExitCode></rsp:CommandState>`, command, states, code)
	}
	return http.StatusOK, reply(body + `</rsp:ReceiveResponse>`)
}

// shellHost scripts a host with shells, and lets a test take over some actions.
type shellHost struct {
	mu     sync.Mutex
	opened int
	shells map[string]bool
	stdin  bytes.Buffer
	ended  bool // the last piece of standard input came
	over   map[string]func(r *asked) (int, string)
}

func newShellHost() *shellHost {
	return &shellHost{shells: map[string]bool{}, over: map[string]func(r *asked) (int, string){}}
}

func (s *shellHost) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.shells)
}

func (r *asked) shell() string { return r.header.at("SelectorSet", "Selector").value() }

func (r *asked) command() string {
	for _, at := range []*node{r.body.at("CommandLine"), r.body.at("Receive", "DesiredStream"), r.body.at("Signal"), r.body.at("Send", "Stream")} {
		if id := at.attr("CommandId"); id != "" {
			return id
		}
	}
	return ""
}

func (s *shellHost) answer(r *asked) (int, string) {
	if take, found := s.over[r.action]; found {
		if status, text := take(r); status != 0 {
			return status, text
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.action != "Create" && !s.shells[r.shell()] {
		return fault(codeShellNotFound, "w:InvalidSelectors", "The request contained invalid selectors for the resource.")
	}
	switch r.action {
	case "Create":
		s.opened++
		id := fmt.Sprintf("SHELL-%d", s.opened)
		s.shells[id] = true
		return createdShell(id)
	case "Delete":
		delete(s.shells, r.shell())
		return http.StatusOK, reply("")
	case "Command":
		return http.StatusOK, reply(`<rsp:CommandResponse><rsp:CommandId>` + r.command() + `</rsp:CommandId></rsp:CommandResponse>`)
	case "Send":
		stream := r.body.at("Send", "Stream")
		data, _ := base64.StdEncoding.DecodeString(stream.value())
		s.stdin.Write(data)
		s.ended = s.ended || stream.attr("End") == "true"
		return http.StatusOK, reply(`<rsp:SendResponse/>`)
	case "Receive":
		return received(r.command(), "out\r\n", "", 0)
	case "Signal":
		return http.StatusOK, reply(`<rsp:SignalResponse/>`)
	}
	return fault(87, "w:InvalidParameter", "The parameter is incorrect.")
}
