package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// MostJumps is how many jump hosts may be on the way to a host.
	MostJumps = 4
	// idleTime is how long a connection to a jump host is kept for nobody.
	idleTime = time.Minute
)

// Pool shares the connections to jump hosts among all who go through them.
type Pool struct {
	idle  time.Duration
	tasks sync.WaitGroup // dials, and ends of connections

	mu     sync.Mutex
	jumps  map[string]*jump // by Version
	closed bool
}

// NewPool makes an empty pool.
func NewPool() *Pool { return &Pool{idle: idleTime, jumps: map[string]*jump{}} }

// Dial is the function Dial, by way of config.Jump if there is one. What fails
// at a jump host is a HopError.
func (p *Pool) Dial(ctx context.Context, config Config) (*Client, error) {
	if config.Jump == nil {
		return Dial(ctx, config)
	}
	if err := checkChain(config); err != nil {
		return nil, unreachable(config, err)
	}
	attempt, err := prepare(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attempt.config.DialTimeout)
	defer cancel()
	client, err := p.dialThrough(ctx, attempt)
	if errors.Is(err, errJumpLost) && ctx.Err() == nil {
		// It was kept, and died while nobody looked.
		client, err = p.dialThrough(ctx, attempt)
	}
	return client, err
}

func (p *Pool) dialThrough(ctx context.Context, attempt attempt) (*Client, error) {
	j, by, err := p.acquire(ctx, attempt.config)
	if err != nil {
		return nil, err
	}
	defer p.release(j)
	leave, err := j.budget.enter(ctx)
	if err != nil {
		return nil, unreachable(attempt.config, fmt.Errorf("wait for other dials through the jump host: %w", err))
	}
	defer leave()
	client, err := attempt.dial(ctx, func(ctx context.Context, config Config) (net.Conn, error) {
		p.hold(j)
		return by.forward(ctx, config, func() { p.release(j) })
	})
	if errors.Is(err, errJumpLost) {
		_ = by.Close() // It has ended; whoever comes next must see that.
	}
	return client, err
}

// checkChain finds what no attempt would change.
func checkChain(config Config) error {
	hops := 0
	for jump := config.Jump; jump != nil; jump = jump.Jump {
		if hops++; hops > MostJumps {
			return fmt.Errorf("more than %d jump hosts are on the way", MostJumps)
		}
		if jump.Version == "" {
			return errors.New("a jump host's configuration has no version")
		}
	}
	for hop := &config; hop.Jump != nil; hop = hop.Jump {
		if err := checkAddress(*hop); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress judges an address that a jump host will connect to. A name is
// looked up there and not here, so what it stands for is not known.
func checkAddress(config Config) error {
	host, _, err := net.SplitHostPort(config.Address)
	if err != nil || config.CheckAddress == nil {
		return err
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return config.CheckAddress(address)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case last == "localhost": // RFC 6761, section 6.3
		return config.CheckAddress(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case last == "" || strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x"):
		// Such as 127.1 and 0x7f000001, which inet_aton(3) reads on the jump host; no domain ends so.
		return fmt.Errorf("%q is neither a name nor an address in its usual form", host)
	}
	return nil
}

// Close ends all connections and returns when nothing is left of them.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, j := range p.jumps {
		if j.flight != nil {
			j.flight.cancel()
		}
		p.remove(j)
	}
	p.mu.Unlock()
	p.tasks.Wait()
}

// remove forgets a jump host. The caller holds mu.
func (p *Pool) remove(j *jump) {
	j.timer.Stop()
	delete(p.jumps, j.config.Version)
	if client := j.client; client != nil {
		j.client = nil
		p.tasks.Go(func() { _ = client.Close() })
	}
}

// hold counts one more user of a jump host that has one.
func (p *Pool) hold(j *jump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.users++
}

func (p *Pool) release(j *jump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.users--
	p.rest(j)
}

// rest plans the end of what nobody uses. The caller holds mu.
func (p *Pool) rest(j *jump) {
	if j.users == 0 && j.flight == nil {
		j.timer.Reset(j.keptFor(p.idle))
	}
}

// expire ends what nobody has used for a while.
func (p *Pool) expire(j *jump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.users == 0 && j.flight == nil && p.jumps[j.config.Version] == j {
		p.remove(j)
	}
}

// errPoolClosed says that the operator ends.
var errPoolClosed = &transport.UnreachableError{Address: "jump host", Err: errors.New("the operator ends")}
