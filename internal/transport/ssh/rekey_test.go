package ssh

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// TestKeyExchangeAtOnce: a host may show its key again as soon as we are logged in,
// while that of the first time is read. It is the race detector that fails here.
func TestKeyExchangeAtOnce(t *testing.T) {
	key := newSigner(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // it ends either way
	exchanged := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			exchanged <- err
			return
		}
		config := &ssh.ServerConfig{NoClientAuth: true, Config: ssh.Config{RekeyThreshold: 1}}
		config.AddHostKey(key)
		server, channels, requests, err := ssh.NewServerConn(conn, config)
		if err != nil {
			exchanged <- err
			return
		}
		go ssh.DiscardRequests(requests)
		go refuseChannels(channels)
		for range 100 { // More than is sent under one key.
			_, _, err = server.SendRequest("note", false, make([]byte, 64))
		}
		exchanged <- err
	}()
	client, err := Dial(context.Background(), Config{Address: listener.Addr().String(), HostKeys: []string{keyLine(key.PublicKey())}})
	require.NoError(t, err)
	require.NoError(t, <-exchanged)
	require.NoError(t, client.Close())
}
