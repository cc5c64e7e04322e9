package winrm

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

func TestRunCollectsOutput(t *testing.T) {
	s := newShellHost()
	polls := 0
	s.over["Receive"] = func(r *asked) (int, string) {
		switch polls++; polls {
		case 1:
			return fault(codeOperationTimeout, "w:TimedOut", "Der Vorgang ...")
		case 2:
			return received(r.command(), "first ", "oops", -1)
		default:
			return received(r.command(), "second", "", 0xC0000135)
		}
	}
	s.over["Command"] = func(r *asked) (int, string) {
		if got := r.body.at("CommandLine", "Command").text; got != `echo "a&b" <c> ]]>` {
			t.Errorf("command %q arrived", got)
		}
		if r.command() == "" {
			t.Error("no command id was chosen")
		}
		return 0, ""
	}
	h := newFakeHost(t, NTLM, s.answer)
	c := h.dial()
	result, err := c.Run(t.Context(), Request{Command: `echo "a&b" <c> ]]>`})
	if err != nil {
		t.Fatal(err)
	}
	if string(result.Stdout) != "first second" || string(result.Stderr) != "oops" || result.ExitCode != 0xC0000135 || result.Truncated {
		t.Errorf("result %+v", result)
	}
	if h.count("Signal") != 1 {
		t.Errorf("%d signals, want 1", h.count("Signal"))
	}
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if s.left() != 0 {
		t.Errorf("%d shells were left", s.left())
	}
}

func TestNegativeExitCode(t *testing.T) {
	o := newOutput(Request{})
	if err := o.exit("-1073741515"); err != nil || o.code != 0xC0000135 {
		t.Errorf("code %x, error %v", o.code, err)
	}
	for _, text := range []string{"", "x", "4294967296"} {
		if err := o.exit(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestShellsAreReusedAndRecycled(t *testing.T) {
	s := newShellHost()
	h := newFakeHost(t, Basic, s.answer)
	c := h.dial()
	for range commandsPerShell + 1 {
		if _, err := c.Run(t.Context(), Request{Command: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if s.opened != 2 {
		t.Errorf("%d shells for %d commands, want 2", s.opened, commandsPerShell+1)
	}
	c.Close()
	if s.left() != 0 {
		t.Errorf("%d shells were left", s.left())
	}
}

func TestLostShellIsReplacedOnce(t *testing.T) {
	for _, code := range []uint32{codeShellNotFound, codeShellQuota, codeOperationQuota} {
		s := newShellHost()
		commands := 0
		s.over["Command"] = func(*asked) (int, string) {
			if commands++; commands == 1 {
				return fault(code, "w:InvalidSelectors", "gone")
			}
			return 0, ""
		}
		h := newFakeHost(t, Basic, s.answer)
		c := h.dial()
		if _, err := c.Run(t.Context(), Request{Command: "x"}); err != nil {
			t.Errorf("%d: %v", code, err)
		}
		s.over["Command"] = func(*asked) (int, string) { return fault(code, "w:InvalidSelectors", "gone") }
		before := h.count("Command")
		if _, err := c.Run(t.Context(), Request{Command: "x"}); faultCode(err) != code {
			t.Errorf("%d: error %v", code, err)
		}
		if n := h.count("Command") - before; n != 2 {
			t.Errorf("%d: %d attempts, want 2", code, n)
		}
		c.Close()
		if s.left() != 0 {
			t.Errorf("%d: %d shells were left", code, s.left())
		}
	}
}

func TestTooManyShells(t *testing.T) {
	s := newShellHost()
	creates := 0
	s.over["Create"] = func(*asked) (int, string) {
		if creates++; creates == 1 {
			return fault(codeShellQuota, "w:QuotaLimit", "too many")
		}
		return 0, ""
	}
	h := newFakeHost(t, Basic, s.answer)
	if _, err := h.dial().Run(t.Context(), Request{Command: "x"}); err != nil {
		t.Error(err)
	}
	if creates != 2 {
		t.Errorf("%d attempts", creates)
	}
}

func TestFaultOnReceiveEndsTheCommand(t *testing.T) {
	s := newShellHost()
	s.over["Receive"] = func(*asked) (int, string) { return fault(995, "w:InternalError", "aborted") }
	h := newFakeHost(t, Basic, s.answer)
	c := h.dial()
	if _, err := c.Run(t.Context(), Request{Command: "x"}); faultCode(err) != 995 {
		t.Errorf("error %v", err)
	}
	if n := h.count("Receive"); n != 1 {
		t.Errorf("%d times received", n)
	}
	c.Close()
	if s.left() != 0 {
		t.Errorf("%d shells were left", s.left())
	}
}

func TestBusyIsWaitedOut(t *testing.T) {
	s := newShellHost()
	busy := 0
	s.over["Command"] = func(*asked) (int, string) {
		if busy++; busy < 3 {
			return fault(codeBusy, "w:InternalError", "busy")
		}
		return 0, ""
	}
	h := newFakeHost(t, Basic, s.answer)
	if _, err := h.dial().Run(t.Context(), Request{Command: "x"}); err != nil || busy != 3 {
		t.Errorf("error %v after %d attempts", err, busy)
	}
}

func TestStdinIsCutToFit(t *testing.T) {
	s := newShellHost()
	sends := 0
	s.over["Send"] = func(r *asked) (int, string) {
		if s.ended {
			t.Error("input after the end")
		}
		switch sends++; sends {
		case 2:
			return fault(codeBusy, "w:InternalError", "busy")
		case 4:
			// Taken, but not consumed in time: it must not be sent again.
			data, _ := base64.StdEncoding.DecodeString(r.body.at("Send", "Stream").value())
			s.mu.Lock()
			s.stdin.Write(data)
			s.mu.Unlock()
			return fault(codeOperationTimeout, "w:TimedOut", "slow")
		}
		return 0, ""
	}
	s.over["Receive"] = func(r *asked) (int, string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.ended {
			return received(r.command(), "x", "", -1)
		}
		return received(r.command(), "", "", 0)
	}
	h := newFakeHost(t, Basic, s.answer)
	content := bytes.Repeat([]byte("0123456789abcdef"), 30_000)
	result, err := h.dial().Run(t.Context(), Request{Command: "x", Stdin: bytes.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.stdin.Bytes(), content) || !s.ended {
		t.Errorf("%d of %d bytes arrived, ended %v", s.stdin.Len(), len(content), s.ended)
	}
	if string(result.Stdout) != "x" {
		t.Errorf("output %q, want what was printed while input was sent", result.Stdout)
	}
	for _, r := range h.asked {
		if r.size > maxEnvelope || r.size <= 0 || r.chunked {
			t.Errorf("%s: length %d, chunked %v", r.action, r.size, r.chunked)
		}
	}
}

func TestInputOfExactlyOnePieceEndsOnce(t *testing.T) {
	for _, extra := range []int{-1, 0, 1} {
		s := newShellHost()
		h := newFakeHost(t, Basic, s.answer)
		c := h.dial()
		size, err := c.pieceSize(&shell{id: "SHELL-1"}, strings.ToUpper(newID()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Run(t.Context(), Request{Command: "x", Stdin: strings.NewReader(strings.Repeat("x", size+extra))}); err != nil {
			t.Fatal(err)
		}
		want := 1
		if extra > 0 {
			want = 2
		}
		if n := h.count("Send"); n != want || !s.ended {
			t.Errorf("%+d: %d pieces, ended %v", extra, n, s.ended)
		}
	}
}

func TestCommandThatTakesNoInput(t *testing.T) {
	s := newShellHost()
	s.over["Send"] = func(*asked) (int, string) { return fault(109, "w:InternalError", "the pipe has been ended") }
	h := newFakeHost(t, Basic, s.answer)
	result, err := h.dial().Run(t.Context(), Request{Command: "x", Stdin: strings.NewReader("input")})
	if err != nil || string(result.Stdout) != "out\r\n" {
		t.Errorf("result %+v, error %v", result, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	s := newShellHost()
	polls := 0
	s.over["Receive"] = func(r *asked) (int, string) {
		code := int64(-1)
		if polls++; polls == 5 {
			code = 0
		}
		return received(r.command(), strings.Repeat("y", 1000), "", code)
	}
	h := newFakeHost(t, Basic, s.answer)
	result, err := h.dial().Run(t.Context(), Request{Command: "x", MaxStdout: 1500})
	if err != nil || len(result.Stdout) != 1500 || !result.Truncated {
		t.Errorf("%d bytes, truncated %v, error %v", len(result.Stdout), result.Truncated, err)
	}
}

// A request that hangs ends with its context, its shell goes, and nothing of
// the client is left.
func TestHungReceiveEndsWithItsContext(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newShellHost()
	release := make(chan struct{})
	s.over["Receive"] = func(r *asked) (int, string) {
		select {
		case <-release:
		case <-r.ctx.Done():
		}
		return 0, ""
	}
	h := newFakeHost(t, NTLM, s.answer)
	c := h.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := c.Run(ctx, Request{Command: "x"})
	if took := time.Since(begun); took > time.Second {
		t.Errorf("ended after %v", took)
	}
	var lost *transport.LostError
	if !errors.As(err, &lost) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want a LostError by the context", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if s.left() != 0 {
		t.Errorf("%d shells were left", s.left())
	}
	close(release)
	h.server.Close()
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			buffer := make([]byte, 1<<16)
			t.Fatalf("waited for %s in vain\n%s", what, buffer[:runtime.Stack(buffer, true)])
		}
	}
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	s := newShellHost()
	asking := make(chan struct{}, 16)
	s.over["Receive"] = func(r *asked) (int, string) {
		asking <- struct{}{}
		<-r.ctx.Done()
		return 0, ""
	}
	h := newFakeHost(t, Basic, s.answer)
	c := h.dial()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(context.Background(), Request{Command: "x"})
		ended <- err
	}()
	<-asking
	begun := time.Now()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("closed after %v", took)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if s.left() != 0 {
		t.Errorf("%d shells were left", s.left())
	}
	if _, err := c.Run(t.Context(), Request{Command: "x"}); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v after Close", err)
	}
}

func TestManyRunsAtOnce(t *testing.T) {
	s := newShellHost()
	var most, now atomic.Int32
	var mu sync.Mutex
	at := map[string]bool{}
	s.over["Command"] = func(r *asked) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if at[r.shell()] {
			t.Error("two commands at once in one shell")
		}
		at[r.shell()] = true
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		return 0, ""
	}
	s.over["Signal"] = func(r *asked) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		at[r.shell()] = false
		now.Add(-1)
		return 0, ""
	}
	h := newFakeHost(t, NTLM, s.answer)
	c := h.dial()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := c.Run(t.Context(), Request{Command: "x", Stdin: strings.NewReader("y")}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if most.Load() > maxShells || s.opened > maxShells {
		t.Errorf("%d commands at once, %d shells", most.Load(), s.opened)
	}
}

func TestStatusOtherThanXMLDuringRun(t *testing.T) {
	s := newShellHost()
	s.over["Send"] = func(*asked) (int, string) { return http.StatusRequestEntityTooLarge, "" }
	h := newFakeHost(t, Basic, s.answer)
	_, err := h.dial().Run(t.Context(), Request{Command: "x", Stdin: strings.NewReader("y")})
	var large *EnvelopeTooLargeError
	if !errors.As(err, &large) {
		t.Errorf("error %v, want an EnvelopeTooLargeError", err)
	}
}

func TestShellsOfAHostThatWasRestarted(t *testing.T) {
	s := newShellHost()
	h := newFakeHost(t, Basic, s.answer)
	c := h.dial()
	if _, err := c.Run(t.Context(), Request{Command: "x"}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	clear(s.shells)
	s.mu.Unlock()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// A defect in what is cleared away ends the client, and neither the operator nor the wait of Close.
func TestPanicInTheBackground(t *testing.T) {
	life, end := context.WithCancel(context.Background())
	c := &Client{life: life, end: end, lanes: make(chan struct{}, maxLanes), shells: make(chan struct{}, maxShells)}
	c.shells <- struct{}{}
	c.discard(nil)
	c.background.Wait()
	_, err := c.Query(t.Context(), "root/cimv2", "SELECT Name FROM Win32_Service")
	var panicked *defect.PanicError
	if !errors.As(err, &panicked) || len(c.shells) != 0 {
		t.Errorf("error %v, %d shells", err, len(c.shells))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
