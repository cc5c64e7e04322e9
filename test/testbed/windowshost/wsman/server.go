package wsman

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options say what a service is like.
type Options struct {
	// Machine is the name that faults and NTLM carry.
	Machine        string
	User, Password string
	// Certificate has its key; the leaf comes first and is signed with SHA-256. Without
	// one the service speaks plain HTTP, as WinRM does on port 5985.
	Certificate *tls.Certificate
	Programs    Programs
	Repository  Repository
	Limits      Limits
	// Zone is where times are written in.
	Zone *time.Location
	// ClientAuthorities sign the client certificates that are mapped to the account; nil: none is taken.
	ClientAuthorities *x509.CertPool
	// NewestTLS is the newest version that is spoken; 0: TLS 1.3.
	NewestTLS uint16
	// Binding is demanded of logons by NTLM and Kerberos over TLS.
	Binding Binding
	// Acceptor takes Kerberos tickets; nil: there is no Kerberos.
	Acceptor Acceptor
	// Challenge changes the challenges of NTLM, as somebody between could; nil: they stay.
	Challenge func([]byte) []byte
}

// Limits are the quotas of the service; a zero one is that of Windows.
type Limits struct {
	MaxShellsPerUser  int           // 30
	MaxEnvelopeSizeKB int           // 500
	MaxTimeout        time.Duration // 60 s
	// MaxOperationsPerShell is how many commands a shell takes; 0: any number. Windows
	// does not give the operation of a command back before the shell is deleted.
	MaxOperationsPerShell int
	// EnumerationTimeout is when an enumeration that nobody reads on ends; 4 minutes.
	EnumerationTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.MaxShellsPerUser == 0 {
		l.MaxShellsPerUser = 30
	}
	if l.MaxEnvelopeSizeKB == 0 {
		l.MaxEnvelopeSizeKB = 500
	}
	if l.MaxTimeout == 0 {
		l.MaxTimeout = time.Minute
	}
	if l.EnumerationTimeout == 0 {
		l.EnumerationTimeout = 4 * time.Minute
	}
	return l
}

// Counters count since the start, but for OpenShells and OpenEnumerations.
type Counters struct {
	OpenShells, OpenCommands, OpenEnumerations int
	Shells, Commands, Requests, Connections    int
	// Actions counts requests by the last part of their action, such as Receive.
	Actions map[string]int
}

// Server is the service.
type Server struct {
	options    Options
	limits     Limits
	binding    []byte
	accounts   accounts
	injections injections
	shells     shells
	contexts   contexts

	mu       sync.Mutex
	http     *http.Server
	counters Counters
}

// NewServer makes a service that does not listen yet.
func NewServer(o Options) *Server {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	s := &Server{options: o, limits: o.Limits.withDefaults()}
	s.accounts.user, s.accounts.password = o.User, o.Password
	s.contexts.lasts = s.limits.EnumerationTimeout
	s.counters.Actions = map[string]int{}
	if o.Certificate != nil {
		s.binding = bindingOf(o.Certificate.Certificate[0])
	}
	return s
}

// Serve answers what comes in on a listener until Close.
func (s *Server) Serve(listener net.Listener) {
	server := &http.Server{
		Handler:           s,
		ConnContext:       withConnection,
		ConnState:         s.countConnection,
		ReadHeaderTimeout: time.Minute,
		// Clients that hang up in a handshake are what the tests are about.
		ErrorLog: log.New(io.Discard, "", 0),
		// NTLM logs a connection on, so there must be no HTTP/2.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	if s.options.Certificate != nil {
		config := &tls.Config{Certificates: []tls.Certificate{*s.options.Certificate}, MinVersion: tls.VersionTLS12, MaxVersion: s.options.NewestTLS}
		if s.options.ClientAuthorities != nil {
			config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, s.options.ClientAuthorities
		}
		listener = tls.NewListener(listener, config)
	}
	s.mu.Lock()
	s.http = server
	s.mu.Unlock()
	go func() { _ = server.Serve(listener) }() // it ends with Close
}

// Close drops all connections and ends all shells. The service can be served again.
func (s *Server) Close() error {
	s.mu.Lock()
	server := s.http
	s.http = nil
	s.mu.Unlock()
	var err error
	if server != nil {
		err = server.Close()
	}
	s.shells.closeAll()
	s.contexts.clear()
	return err
}

// SetPassword changes the password; connections that are logged on stay so, as on Windows.
func (s *Server) SetPassword(password string) {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	s.accounts.password = password
}

// FailedLogons counts the attempts with wrong credentials. A request without any is none.
func (s *Server) FailedLogons() int {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	return s.accounts.failed
}

// Inject adds a disturbance, Calm removes all.
func (s *Server) Inject(i Injection) { s.injections.add(i) }

// Calm removes all disturbances that are left.
func (s *Server) Calm() { s.injections.clear() }

// Counters returns the counters of this moment.
func (s *Server) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters
	c.Actions = map[string]int{}
	for action, n := range s.counters.Actions {
		c.Actions[action] = n
	}
	c.OpenShells, c.OpenCommands = s.shells.count()
	c.OpenEnumerations = s.contexts.count()
	return c
}

func (s *Server) countConnection(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.counters.Connections++
	}
}

func (s *Server) count(update func(*Counters)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	update(&s.counters)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Microsoft-HTTPAPI/2.0")
	c := connectionOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if path := strings.TrimSuffix(r.URL.Path, "/"); path != "/wsman" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if r.Header.Get("WSMANIDENTIFY") != "" {
		s.identify(w)
		return
	}
	if !s.logOn(w, r, c) {
		return
	}
	if len(r.TransferEncoding) > 0 {
		s.answer(w, c, http.StatusInternalServerError, (&Fault{Code: CodeNotSupported, Role: receiver, Subcode: "w:InternalError",
			Message: "The request is not supported. "}).envelope("", s.options.Machine))
		return
	}
	s.serve(w, r, c)
}

// serve reads the envelope, unsealed, and answers it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *connection) {
	contentType := r.Header.Get("Content-Type")
	limit := s.limits.MaxEnvelopeSizeKB << 10
	// Sealing adds about 300 bytes, which are no part of the envelope.
	content, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1024))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if len(content) == 0 {
		w.WriteHeader(http.StatusOK) // an empty message, which only logs on
		return
	}
	c.sealed = isSealed(contentType)
	switch {
	case c.sealed && c.keys != nil && len(content) < limit+1024:
		if content, err = unwrap(c.keys, content); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	case s.options.Certificate == nil:
		// AllowUnencrypted is off: nothing in the clear over plain HTTP.
		w.WriteHeader(http.StatusInternalServerError)
		return
	case !strings.HasPrefix(strings.ToLower(contentType), "application/soap+xml"):
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	if len(content) > limit {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	s.serveEnvelope(w, r, c, content)
}

// serveEnvelope performs a request and answers it.
func (s *Server) serveEnvelope(w http.ResponseWriter, r *http.Request, c *connection, content []byte) {
	var request envelope
	if err := xml.NewDecoder(bytes.NewReader(content)).Decode(&request); err != nil {
		s.answer(w, c, http.StatusInternalServerError, invalidParameter().envelope("", s.options.Machine))
		return
	}
	action := strings.TrimSpace(request.Header.Action)
	s.count(func(n *Counters) {
		n.Requests++
		n.Actions[action[strings.LastIndexByte(action, '/')+1:]]++
	})
	injected, disturbed := s.injections.next(action)
	if disturbed && !s.before(w, r, c, injected, &request) {
		return
	}
	// The operation is not tied to the connection: a client that hangs up has not undone it.
	answer, err := s.dispatch(context.WithoutCancel(r.Context()), r, &request)
	if disturbed {
		w = disturb(w, c, injected)
	}
	if err != nil {
		s.answer(w, c, http.StatusInternalServerError, asFault(err).envelope(request.Header.MessageID, s.options.Machine))
		return
	}
	s.answer(w, c, http.StatusOK, answer)
}

// answer sends an envelope, sealed if the request was.
func (s *Server) answer(w http.ResponseWriter, c *connection, status int, content []byte) {
	w.Header().Set("Content-Type", "application/soap+xml;charset=UTF-8")
	if c.sealed {
		sealed, err := wrap(c.keys, content)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", sealedType)
		content = sealed
	}
	w.WriteHeader(status)
	_, _ = w.Write(content) // the client may have gone
}

// identify answers the unauthenticated Identify request (DSP0226, 11).
func (s *Server) identify(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/soap+xml;charset=UTF-8")
	_, _ = io.WriteString(w, `<s:Envelope xmlns:s="`+nsSOAP+`"><s:Header/><s:Body><wsmid:IdentifyResponse xmlns:wsmid="`+nsIdentity+
		`"><wsmid:ProtocolVersion>`+nsManagement+`</wsmid:ProtocolVersion><wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>`+
		`<wsmid:ProductVersion>OS: 0.0.0 SP: 0.0 Stack: 3.0</wsmid:ProductVersion></wsmid:IdentifyResponse></s:Body></s:Envelope>`)
}

// dispatch performs a request and returns the envelope of the answer.
func (s *Server) dispatch(ctx context.Context, r *http.Request, request *envelope) ([]byte, error) {
	for _, block := range request.Header.Unknown {
		if block.MustUnderstand == "true" || block.MustUnderstand == "1" {
			return nil, &Fault{Code: CodeSchemaValidation, Role: "s:MustUnderstand",
				Message: "The WS-Management service does not understand the header " + block.XMLName.Local + ". "}
		}
	}
	limit := s.limits.MaxEnvelopeSizeKB << 10
	if request.Header.maxEnvelope(limit) < 8192 {
		return nil, &Fault{Code: CodeMinEnvelopeSize, Subcode: "w:EncodingLimit", Detail: "MinimumEnvelopeLimit",
			Message: "The WS-Management service cannot process the request. The MaxEnvelopeSize value is too small. "}
	}
	resource := strings.TrimSpace(request.Header.ResourceURI)
	var answer []byte
	var err error
	switch {
	case strings.EqualFold(resource, resourceShell):
		answer, err = s.dispatchShell(r, request)
	case len(resource) > len(resourceWMI) && strings.EqualFold(resource[:len(resourceWMI)], resourceWMI):
		ctx, cancel := context.WithTimeout(ctx, request.Header.timeout(s.limits.MaxTimeout))
		defer cancel()
		answer, err = s.dispatchCIM(ctx, request, resource[len(resourceWMI):])
		if errors.Is(err, context.DeadlineExceeded) {
			err = operationTimeout()
		}
	default:
		err = NotFound()
	}
	if err == nil && len(answer) > request.Header.maxEnvelope(limit) {
		err = &Fault{Code: CodeEnvelopeTooLarge, Role: "s:Receiver", Subcode: "w:EncodingLimit", Detail: "MaxEnvelopeSizeExceeded",
			Message: "The WS-Management service cannot process the request. The response that the service computed exceeds the maximum envelope size in the request. "}
	}
	return answer, err
}
