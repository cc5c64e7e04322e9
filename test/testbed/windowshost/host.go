package windowshost

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/cim"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// The ports of WinRM, for a host with an address of its own.
const (
	portHTTPS = 5986
	portHTTP  = 5985
)

// Options say what a host is like.
type Options struct {
	// Name is the machine's NetBIOS name, WINHOST if empty.
	Name string
	// Dir is where the host lives: a directory "windows-NAME" is made in it.
	Dir      string
	Janitor  *janitor.Janitor
	Progress io.Writer
	// Namespace gives the host an address of its own; nil means loopback.
	Namespace *network.Namespace
	// User and Password of the one account; Administrator and a random password if empty.
	User, Password string
	Limits         wsman.Limits
	// Zone is the time zone that the host writes times in; UTC if nil.
	Zone *time.Location
	// Plain has the host listen for plain HTTP too, where it takes nothing but NTLM
	// with sealed messages.
	Plain PlainHTTP
}

// PlainHTTP says whether a host listens for plain HTTP.
type PlainHTTP int

const (
	// NoPlainHTTP is HTTPS only.
	NoPlainHTTP PlainHTTP = iota
	// SealedPlainHTTP is HTTPS and, with sealed messages, HTTP.
	SealedPlainHTTP
)

// Host is a running Windows host.
type Host struct {
	options    Options
	machine    *wine.Machine
	repository *cim.Repository
	server     *wsman.Server
	plain      *wsman.Server // nil without plain HTTP
	ca         []byte
	address    netip.Addr
	port       int
	plainPort  int

	full atomic.Bool // the drive takes no more deliveries

	mu     sync.Mutex
	booted time.Time
}

// Start boots a host and returns when it can be reached.
func Start(ctx context.Context, o Options) (*Host, error) {
	o = o.withDefaults()
	h := &Host{options: o, address: netip.MustParseAddr("127.0.0.1")}
	config := wine.Config{Dir: filepath.Join(o.Dir, "windows-"+strings.ToLower(o.Name)), Name: o.Name, Janitor: o.Janitor, Progress: o.Progress}
	if o.Namespace != nil {
		config.Argv = o.Namespace.Argv
		h.address = o.Namespace.Address()
	}
	certificate, ca, err := authority(o.Name, h.address.AsSlice())
	if err != nil {
		return nil, err
	}
	h.ca = ca
	if h.machine, err = wine.Boot(ctx, config); err != nil {
		return nil, fmt.Errorf("boot Windows host %s: %w", o.Name, err)
	}
	h.booted = time.Now()
	h.repository = cim.NewRepository(h.machine, o.Name, h.bootTime)
	service := wsman.Options{Machine: o.Name, User: o.User, Password: o.Password, Certificate: certificate, Programs: programs{h},
		Repository: h.repository, Limits: o.Limits, Zone: o.Zone}
	h.server = wsman.NewServer(service)
	if o.Plain == SealedPlainHTTP {
		service.Certificate = nil
		h.plain = wsman.NewServer(service)
	}
	if err := errors.Join(h.installCurl(), h.listen()); err != nil {
		return nil, errors.Join(err, h.Stop(ctx))
	}
	return h, nil
}

// installCurl puts a file where Windows has curl.exe, for programs to look for.
func (h *Host) installCurl() error {
	path, err := h.machine.Path(curlPath)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte("stands for curl.exe, which a test endpoint performs itself\n"), 0o644)
}

// FillDisk has the drive take no more deliveries, until FreeDisk; CIM and cmd.exe are
// not concerned.
func (h *Host) FillDisk() { h.full.Store(true) }

// FreeDisk ends what FillDisk began.
func (h *Host) FreeDisk() { h.full.Store(false) }

// dial connects from where the host is.
func (h *Host) dial(ctx context.Context, network, address string) (connection net.Conn, err error) {
	dial := func() error {
		connection, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	}
	if h.options.Namespace != nil {
		return connection, h.options.Namespace.Do(dial)
	}
	return connection, dial()
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "WINHOST"
	}
	if o.User == "" {
		o.User = "Administrator"
	}
	if o.Password == "" {
		o.Password = rand.Text()
	}
	return o
}

// listen opens the ports: WinRM's own in a namespace, any on loopback, and after a
// reboot the ones from before.
func (h *Host) listen() error {
	want, wantPlain := h.port, h.plainPort
	if want == 0 && h.options.Namespace != nil {
		want, wantPlain = portHTTPS, portHTTP
	}
	listener, err := h.open(want)
	if err != nil {
		return err
	}
	h.port = listener.Addr().(*net.TCPAddr).Port
	h.server.Serve(listener)
	if h.plain == nil {
		return nil
	}
	if listener, err = h.open(wantPlain); err != nil {
		return err
	}
	h.plainPort = listener.Addr().(*net.TCPAddr).Port
	h.plain.Serve(listener)
	return nil
}

// open listens on a port, inside the namespace if there is one: a socket stays in the
// namespace that it was opened in.
func (h *Host) open(port int) (net.Listener, error) {
	var listener net.Listener
	listen := func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(h.address.String(), strconv.Itoa(port)))
		return err
	}
	var err error
	if h.options.Namespace != nil {
		err = h.options.Namespace.Do(listen)
	} else {
		err = listen()
	}
	if err != nil {
		return nil, fmt.Errorf("listen for WS-Management: %w", err)
	}
	return listener, nil
}

// Address is the address of the host, and of its services.
func (h *Host) Address() string { return h.address.String() }

// Port is where WS-Management over HTTPS is, PlainPort where it is over HTTP with
// sealed messages (0 if it is not).
func (h *Host) Port() int { return h.port }

// PlainPort is the port of plain HTTP, 0 without.
func (h *Host) PlainPort() int { return h.plainPort }

// CA is the certificate, in PEM, to verify the host's own by. The host's certificate
// names its address, its name and localhost.
func (h *Host) CA() []byte { return h.ca }

// Name is the machine's name.
func (h *Host) Name() string { return h.options.Name }

// User is the name of the one account.
func (h *Host) User() string { return h.options.User }

// Password is what the account had at the start.
func (h *Host) Password() string { return h.options.Password }

// SetPassword changes the password of the account. Connections that have logged on by
// NTLM stay logged on, as on Windows.
func (h *Host) SetPassword(password string) {
	h.server.SetPassword(password)
	if h.plain != nil {
		h.plain.SetPassword(password)
	}
}

// FailedLogins counts attempts with wrong credentials since the start.
func (h *Host) FailedLogins() int {
	n := h.server.FailedLogons()
	if h.plain != nil {
		n += h.plain.FailedLogons()
	}
	return n
}

// Counters are those of HTTPS.
func (h *Host) Counters() wsman.Counters { return h.server.Counters() }

// Inject disturbs requests over HTTPS, Calm ends all disturbances.
func (h *Host) Inject(i wsman.Injection) { h.server.Inject(i) }

// Calm removes the disturbances that are left.
func (h *Host) Calm() { h.server.Calm() }

// Journal is what has been done to services and processes, oldest first.
func (h *Host) Journal() ([]cim.Event, error) { return h.repository.Journal().Events() }

// Path is where a file of drive C: is on this machine.
func (h *Host) Path(windows string) (string, error) { return h.machine.Path(windows) }

// bootTime is when the host was last started.
func (h *Host) bootTime() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.booted
}

// Stop ends the host. Its directory stays until the janitor closes.
func (h *Host) Stop(ctx context.Context) error {
	err := h.server.Close()
	if h.plain != nil {
		err = errors.Join(err, h.plain.Close())
	}
	return errors.Join(err, h.machine.Shutdown(ctx))
}
