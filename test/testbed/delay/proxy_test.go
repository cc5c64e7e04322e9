package delay

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

const oneWay = 50 * time.Millisecond

func TestBytesArriveLateAndUnchanged(t *testing.T) {
	_, conn := through(t, oneWay)
	start := time.Now()
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	received, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	if !bytes.Equal(received, sent) {
		t.Errorf("%d bytes came back, not the %d that were sent", len(received), len(sent))
	}
	// Many pieces are under way at once: the delay is not paid for each.
	if took < 2*oneWay || took > 20*oneWay {
		t.Errorf("3 MiB there and back took %v, want some more than %v", took, 2*oneWay)
	}
	t.Logf("3 MiB there and back in %v", took)
}

func TestSetDelay(t *testing.T) {
	p, conn := through(t, 0)
	if took := roundTrip(t, conn); took > oneWay {
		t.Errorf("without delay: %v", took)
	}
	p.SetDelay(oneWay)
	if took := roundTrip(t, conn); took < 2*oneWay {
		t.Errorf("with a delay of %v: %v", oneWay, took)
	}
}

func TestDrop(t *testing.T) {
	p, conn := through(t, 0)
	roundTrip(t, conn)
	p.Drop()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a dropped connection was read from")
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Error("a dropped connection is still open")
	}
	again, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // only read
	roundTrip(t, again)
}

func roundTrip(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// through opens a connection to an echo server through a proxy.
func through(t *testing.T, delay time.Duration) (*Proxy, net.Conn) {
	t.Helper()
	echo, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = echo.Close() })
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // all was written
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	p, err := Start(echo.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return p, conn
}
