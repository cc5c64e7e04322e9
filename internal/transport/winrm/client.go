package winrm

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	maxLanes                = 2
	maxShells               = 2
	defaultDialTimeout      = 10 * time.Second
	defaultOperationTimeout = 20 * time.Second
	// The server clamps an operation at 60 s (MaxTimeoutms); the answer of a
	// longer one would not be awaited.
	longestOperation = 50 * time.Second
	// An HTTP answer is awaited longer than the operation it belongs to, so
	// that the server's own time-out is heard as a fault and not as a loss.
	answerGrace = 10 * time.Second
	closeTime   = 5 * time.Second
)

// Client is a host that has been reached, verified and authenticated to. Its
// methods may be called from several goroutines.
type Client struct {
	config  Config
	url     string
	session string
	address netip.AddrPort

	// lanes bounds the connections, shells the shells; idle ones are kept.
	lanes, shells chan struct{}
	mu            sync.Mutex
	idleLanes     []*lane
	idleShells    []*shell
	leftShells    []*shell // their deletion was asked for in vain
	closed        bool

	// final is an error after which nothing is sent any more, whoever asks: the
	// host refused the credentials, or answered a sealed message in the clear.
	final atomic.Pointer[finalError]
	// tickets are those of Kerberos; nil for other authentications.
	tickets *ticketSource

	// life ends when Close begins; background is what Close waits for.
	life       context.Context
	end        context.CancelFunc
	background sync.WaitGroup
}

// ErrClosed is the error of calls to a closed client.
var ErrClosed = errors.New("the WinRM client is closed")

// Dial connects, verifies the host, authenticates, and asks it to identify
// itself. Its errors are those of internal/transport: an UnreachableError when
// there is no connection, a TrustError when the certificate does not verify (no
// credential was sent), a CredentialsError after exactly one refused attempt.
func Dial(ctx context.Context, config Config) (*Client, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	c := &Client{
		config:  config,
		url:     strings.ToLower(config.Scheme) + "://" + config.Address + "/wsman",
		session: "uuid:" + newID(),
		lanes:   make(chan struct{}, maxLanes),
		shells:  make(chan struct{}, maxShells),
		life:    life,
		end:     end,
	}
	if config.Authentication == Kerberos {
		c.tickets = newTicketSource(config)
	}
	if err := c.identify(ctx); err != nil {
		end()
		c.closeLanes()
		return nil, err
	}
	return c, nil
}

// identify is the cheap request that proves the whole way there and back.
func (c *Client) identify(ctx context.Context) error {
	reply, err := c.post(ctx, "identify", []byte(identifyEnvelope))
	var lost *transport.LostError
	if errors.As(err, &lost) {
		return &transport.UnreachableError{Address: c.config.Address, Err: lost.Err}
	}
	var fault *Fault
	if errors.As(err, &fault) {
		// Who answers with a fault is a listener that has let us in.
		return nil
	}
	if err != nil {
		return err
	}
	if reply.child("IdentifyResponse") == nil {
		return &transport.UnreachableError{Address: c.config.Address, Err: errors.New("what answers is not a WS-Management listener")}
	}
	return nil
}

// Address is the address that the client is connected to.
func (c *Client) Address() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address
}

// begin admits a call: its context also ends when the client is closed, and
// Close waits until done was called.
func (c *Client) begin(ctx context.Context) (_ context.Context, done func(), _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.background.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		c.background.Done()
	}, nil
}

// Close ends calls under way, awaits what is being cleared away after them,
// deletes the shells on the host (both within five seconds, whether or not it
// answers) and closes the connections.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.background.Wait()

	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := c.deleteShells(ctx)
	c.closeLanes()
	return err
}

func newID() string { return uuid.NewString() }
