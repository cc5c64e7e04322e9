package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// fakeHost is an SSH server in this process, with switches for what hosts do wrong.
type fakeHost struct {
	config   *ssh.ServerConfig
	listener net.Listener
	key      ssh.Signer

	silent       bool          // accepts connections and says nothing
	bannerDelay  time.Duration // before the version line
	maxSessions  int32         // refuses the sessions beyond; 0: none
	muteSessions atomic.Bool   // neither opens sessions nor refuses them
	muteRequests atomic.Bool   // does not answer keepalives
	muteClose    atomic.Bool   // keeps sessions that are closed
	penalties    bool          // as OpenSSH's PerSourcePenalties: after a refusal nobody is heard
	noForwarding bool          // refuses direct-tcpip

	authBytes atomic.Int32 // authentication requests
	refusals  atomic.Int32 // of them, credentials that were refused
	passwords atomic.Int32 // attempts with a password
	open      atomic.Int32 // sessions
	most      atomic.Int32 // of them at once
	accepted  atomic.Int32 // connections
	greeting  atomic.Int32 // connections that are not authenticated yet
	mostMet   atomic.Int32 // of them at once
	forwards  atomic.Int32 // connections that were made for others

	mu    sync.Mutex
	conns []net.Conn
	// handle serves one command; it may close the channel before it returns.
	handle func(command string, s *fakeSession)
}

type fakeSession struct {
	ssh.Channel
	host *fakeHost
	conn net.Conn
}

func (s *fakeSession) exit(code uint32) {
	_, _ = s.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return signer
}

// newFakeHost starts a server whose password is "right". Its default command
// copies its input to its output and succeeds.
func newFakeHost(t *testing.T, change func(*fakeHost)) *fakeHost {
	t.Helper()
	h := &fakeHost{key: newSigner(t)}
	h.handle = func(_ string, s *fakeSession) {
		_, _ = io.Copy(s, s)
		s.exit(0)
	}
	h.config = &ssh.ServerConfig{
		AuthLogCallback: func(_ ssh.ConnMetadata, method string, err error) {
			h.authBytes.Add(1)
			if err != nil && method != "none" {
				h.refusals.Add(1)
			}
		},
		PasswordCallback: func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			h.passwords.Add(1)
			if string(password) != "right" {
				return nil, io.EOF
			}
			return nil, nil
		},
	}
	if change != nil {
		change(h)
	}
	h.config.AddHostKey(h.key)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h.listener = listener
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns = append(h.conns, conn)
			h.mu.Unlock()
			h.accepted.Add(1)
			group.Go(func() { h.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		h.drop()
		group.Wait()
	})
	return h
}

// drop ends every connection.
func (h *fakeHost) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, conn := range h.conns {
		_ = conn.Close()
	}
}

func (h *fakeHost) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // it ends either way
	if h.silent {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	if h.penalties && h.refusals.Load() > 0 {
		return
	}
	raise(&h.mostMet, h.greeting.Add(1))
	time.Sleep(h.bannerDelay)
	server, channels, requests, err := ssh.NewServerConn(conn, h.config)
	h.greeting.Add(-1)
	if err != nil {
		return
	}
	go h.answer(requests)
	for channel := range channels {
		if channel.ChannelType() == "direct-tcpip" {
			go h.forward(channel)
			continue
		}
		go h.session(conn, channel)
	}
	_ = server.Wait()
}

func (h *fakeHost) answer(requests <-chan *ssh.Request) {
	for request := range requests {
		if request.WantReply && !h.muteRequests.Load() {
			_ = request.Reply(false, nil)
		}
	}
}

func (h *fakeHost) session(conn net.Conn, offered ssh.NewChannel) {
	if h.muteSessions.Load() {
		return
	}
	now := h.open.Add(1)
	defer h.open.Add(-1)
	if h.maxSessions > 0 && now > h.maxSessions {
		_ = offered.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	raise(&h.most, now)
	channel, requests, err := offered.Accept()
	if err != nil {
		return
	}
	var command struct{ Text string }
	for request := range requests {
		if request.Type == "exec" && ssh.Unmarshal(request.Payload, &command) == nil {
			_ = request.Reply(true, nil)
			break
		}
	}
	go ssh.DiscardRequests(requests)
	h.handle(command.Text, &fakeSession{channel, h, conn})
	if !h.muteClose.Load() {
		_ = channel.Close()
	}
}

// raise keeps the highest of the values.
func raise(most *atomic.Int32, value int32) {
	for {
		before := most.Load()
		if value <= before || most.CompareAndSwap(before, value) {
			return
		}
	}
}

// forward connects as jump hosts do.
func (h *fakeHost) forward(offered ssh.NewChannel) {
	var to struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	if h.noForwarding || ssh.Unmarshal(offered.ExtraData(), &to) != nil {
		_ = offered.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	h.forwards.Add(1)
	channel, requests, err := offered.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		_, _ = io.Copy(conn, channel)
		_ = conn.Close()
	}()
	_, _ = io.Copy(channel, conn)
	_ = channel.Close()
}

func (h *fakeHost) hostKey() string { return keyLine(h.key.PublicKey()) }

func (h *fakeHost) dialConfig() Config {
	return Config{
		Address: h.listener.Addr().String(), User: "operator", Password: "right",
		HostKeys: []string{h.hostKey()}, DialTimeout: 5 * time.Second,
	}
}

func (h *fakeHost) dial(t *testing.T) *Client {
	t.Helper()
	client, err := Dial(context.Background(), h.dialConfig())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// privateKey is a key in OpenSSH's format.
func privateKey(t *testing.T, key any, passphrase string) []byte {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	require.NoError(t, err)
	return pem.EncodeToMemory(block)
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}

// requireJoined waits until no goroutine of this package's client is left: the
// stacks are looked through for its functions.
func requireJoined(t *testing.T, functions ...string) {
	t.Helper()
	if len(functions) == 0 {
		functions = []string{
			"ssh.(*session)", "ssh.(*Client)", "ssh.newClient", "ssh.handshake(", "ssh.abandon",
			"ssh.(*Pool)", "ssh.(*forwarded)", "ssh.newForwarded", "ssh.budget",
		}
	}
	require.Eventually(t, func() bool { return !running(functions) }, 3*time.Second, 10*time.Millisecond, "goroutines are left")
}

// running tells whether a goroutine is in one of the functions.
func running(functions []string) bool {
	return slices.ContainsFunc(functions, func(function string) bool { return anyRunning("internal/transport/" + function) })
}

func anyRunning(function string) bool {
	buffer := make([]byte, 8<<20)
	return strings.Contains(string(buffer[:runtime.Stack(buffer, true)]), function)
}
