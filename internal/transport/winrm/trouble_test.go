package winrm_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

var schemes = []string{winrm.HTTPS, winrm.HTTP}

func TestSlowAndSplitAnswers(t *testing.T) {
	for _, scheme := range schemes {
		b := newBed(t, scheme, nil)
		c := b.dial()
		for _, in := range []wsman.Injection{
			{Action: "Receive", Trouble: wsman.Dribble}, {Action: "Create", Trouble: wsman.Dribble},
			{Action: "Receive", Trouble: wsman.Slow, Pause: 10 * time.Millisecond}, {Action: "Command", Trouble: wsman.Delay, Pause: 300 * time.Millisecond},
		} {
			b.Inject(in)
			result, err := c.Run(t.Context(), winrm.Request{Command: "echo hello"})
			if err != nil || string(result.Stdout) != "hello\n" {
				t.Errorf("%s, %+v: %q, %v", scheme, in, result.Stdout, err)
			}
		}
	}
}

// An answer that is cut, or is none, leaves open what was done; it is not sent again.
func TestBrokenAnswers(t *testing.T) {
	for _, scheme := range schemes {
		for name, trouble := range map[string]wsman.Trouble{"cut": wsman.DropWithin, "dropped before": wsman.DropBefore, "dropped after": wsman.DropAfter} {
			b := newBed(t, scheme, nil)
			c := b.dial()
			b.Inject(wsman.Injection{Action: "M", Trouble: trouble})
			_, err := c.Invoke(t.Context(), "root/cimv2", "X", nil, "M", nil)
			var lost *transport.LostError
			if !errors.As(err, &lost) || b.Counters().Actions["M"] != 1 {
				t.Errorf("%s, %s: error %v after %d requests", scheme, name, err, b.Counters().Actions["M"])
			}
			exercise(t, c)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for _, scheme := range schemes {
		b := newBed(t, scheme, nil)
		c := b.dial()
		b.Inject(wsman.Injection{Action: "M", Trouble: wsman.Nonsense})
		if _, err := c.Invoke(t.Context(), "root/cimv2", "X", nil, "M", nil); err == nil {
			t.Errorf("%s: no error", scheme)
		}
		b.Inject(wsman.Injection{Action: "M", Trouble: wsman.TooLarge})
		_, err := c.Invoke(t.Context(), "root/cimv2", "X", nil, "M", nil)
		var large *winrm.EnvelopeTooLargeError
		if !errors.As(err, &large) {
			t.Errorf("%s: error %v, want an EnvelopeTooLargeError", scheme, err)
		}
		exercise(t, c)
	}
}

// Inside TLS a 401 proves that the request was not carried out, so it is sent
// once more on a connection that is authenticated anew. Without TLS anybody can
// answer 401 to a request that the host did carry out.
func TestForgottenLogon(t *testing.T) {
	for _, scheme := range schemes {
		b := newBed(t, scheme, nil)
		c := b.dial()
		b.Inject(wsman.Injection{Action: "M", Trouble: wsman.Unauthorized})
		_, err := c.Invoke(t.Context(), "root/cimv2", "X", nil, "M", nil)
		var lost *transport.LostError
		want := 2
		if scheme == winrm.HTTP {
			want = 1
			if !errors.As(err, &lost) {
				t.Errorf("error %v, want a LostError", err)
			}
		} else if err != nil {
			t.Error(err)
		}
		if n := b.Counters().Actions["M"]; n != want {
			t.Errorf("%s: sent %d times, want %d", scheme, n, want)
		}
		exercise(t, c)
	}
}

func TestShellsAreRecycledBeforeTheirQuota(t *testing.T) {
	b := newBed(t, winrm.HTTPS, func(o *wsman.Options, _ *authority) {
		o.Limits.MaxOperationsPerShell, o.Limits.MaxShellsPerUser = 5, 2
	})
	c := b.dial()
	for i := range 23 {
		if _, err := c.Run(t.Context(), winrm.Request{Command: "true"}); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	if n := b.Counters(); n.Shells != 5 {
		t.Errorf("%d shells for 23 commands at 5 each", n.Shells)
	}
}

// What other users of the account hold cannot be recycled: the fault is told after one attempt.
func TestShellQuotaOfOthers(t *testing.T) {
	b := newBed(t, winrm.HTTPS, func(o *wsman.Options, _ *authority) { o.Limits.MaxShellsPerUser = 1 })
	other := b.dial()
	if _, err := other.Run(t.Context(), winrm.Request{Command: "true"}); err != nil {
		t.Fatal(err)
	}
	c := b.dial()
	before := b.Counters().Actions["Create"]
	_, err := c.Run(t.Context(), winrm.Request{Command: "true"})
	var fault *winrm.Fault
	if !errors.As(err, &fault) || fault.Code != wsman.CodeMaxShells || b.Counters().Actions["Create"]-before != 2 {
		t.Errorf("error %v after %d attempts", err, b.Counters().Actions["Create"]-before)
	}
}

// Busy is waited out within bounds, and is then a fault.
func TestBusyForEver(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	c := b.dial()
	b.Inject(wsman.Injection{Action: "Command", Trouble: wsman.Fail, Code: wsman.CodeBusy, Times: -1})
	begun := time.Now()
	_, err := c.Run(t.Context(), winrm.Request{Command: "true"})
	var fault *winrm.Fault
	if !errors.As(err, &fault) || fault.Code != wsman.CodeBusy || time.Since(begun) > 15*time.Second {
		t.Errorf("error %v after %v", err, time.Since(begun))
	}
	b.Calm()
}

func TestBusyForEverWhileReceiving(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	c := b.dial()
	b.Inject(wsman.Injection{Action: "Receive", Trouble: wsman.Fail, Code: wsman.CodeBusy, Times: -1})
	_, err := c.Run(t.Context(), winrm.Request{Command: "true"})
	var fault *winrm.Fault
	if !errors.As(err, &fault) || fault.Code != wsman.CodeBusy {
		t.Errorf("error %v", err)
	}
	b.Calm()
}

// What cmd.exe would cut off is not sent.
func TestLongCommandLine(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	c := b.dial()
	before := b.Counters().Requests
	for _, r := range []winrm.Request{
		{Command: "echo", Args: []string{strings.Repeat("x", 8187)}}, {Command: strings.Repeat("😀", 4096)},
		{Command: strings.Repeat("x", 32767), SkipCmdShell: true},
	} {
		if _, err := c.Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "standard input") {
			t.Errorf("error %v", err)
		}
	}
	if n := b.Counters().Requests - before; n != 0 {
		t.Errorf("%d requests", n)
	}
	result, err := c.Run(t.Context(), winrm.Request{Command: "echo", Args: []string{strings.Repeat("x", 8186)}})
	if err != nil || len(result.Stdout) != 8187 {
		t.Errorf("the longest line: %d bytes, %v", len(result.Stdout), err)
	}
}

// zeros is standard input that is made while it is read.
type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	return n, nil
}

// A hundred mebibytes go through a few buffers, whole.
func TestMuchInputIsStreamed(t *testing.T) {
	for scheme, size := range map[string]int{winrm.HTTPS: 100 << 20, winrm.HTTP: 10 << 20} {
		b := newBed(t, scheme, nil)
		c := b.dial()
		sum := sha256.New()
		io.Copy(sum, &zeros{left: size})
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		stop, peak := make(chan struct{}), uint64(0)
		var watching sync.WaitGroup
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					runtime.ReadMemStats(&now)
					peak = max(peak, now.HeapAlloc)
				}
			}
		})
		begun := time.Now()
		result, err := c.Run(t.Context(), winrm.Request{Command: "sha256sum", Stdin: &zeros{left: size}})
		close(stop)
		watching.Wait()
		if err != nil || !strings.HasPrefix(string(result.Stdout), hex.EncodeToString(sum.Sum(nil))) {
			t.Errorf("%s: %q, %v", scheme, result.Stdout, err)
		}
		t.Logf("%s: %d MiB in %v, heap %d MiB at most", scheme, size>>20, time.Since(begun).Round(time.Millisecond), peak>>20)
		if peak > before.HeapAlloc+48<<20 {
			t.Errorf("%s: the heap grew from %d to %d MiB", scheme, before.HeapAlloc>>20, peak>>20)
		}
	}
}

// A command that prints for ever ends with its context; what is kept is bounded,
// and nothing of it is left on the host.
func TestEndlessOutput(t *testing.T) {
	for _, scheme := range schemes {
		b := newBed(t, scheme, nil)
		c := b.dial()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := c.Run(ctx, winrm.Request{Command: "yes", MaxStdout: 1000})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 2*time.Second {
			t.Errorf("%s: %v after %v", scheme, err, time.Since(begun))
		}
	}
}

func TestOutputKeepsHeadAndTail(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	result, err := b.dial().Run(t.Context(), winrm.Request{Command: "echo first; yes middle | head -c 3000000; echo last", MaxStdout: 1000})
	text := string(result.Stdout)
	if err != nil || len(text) != 1000 || !result.Truncated || !strings.HasPrefix(text, "first\nmiddle") || !strings.HasSuffix(text, "last\n") {
		t.Errorf("%d bytes, %v: %q...%q", len(text), err, text[:20], text[max(0, len(text)-20):])
	}
}

// Characters arrive whole, wherever an answer ends.
func TestCharactersAcrossAnswers(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	want := strings.Repeat("aß€😀", 100_000)
	result, err := b.dial().Run(t.Context(), winrm.Request{Command: "cat", Stdin: strings.NewReader(want), MaxStdout: 2 << 20})
	if err != nil || string(result.Stdout) != want {
		t.Errorf("%d bytes of %d, %v", len(result.Stdout), len(want), err)
	}
	if n := b.Counters().Actions["Receive"]; n < 5 {
		t.Errorf("%d answers only", n)
	}
}

// An enumeration that is not read to its end is given back.
func TestEnumerationIsReleased(t *testing.T) {
	for name, trouble := range map[string]wsman.Trouble{"hung": wsman.Hang, "failed": wsman.Fail, "cut": wsman.DropWithin, "dropped": wsman.DropBefore} {
		b := newBed(t, winrm.HTTPS, func(o *wsman.Options, _ *authority) { o.Limits.EnumerationTimeout = time.Hour })
		c := b.dial()
		b.Inject(wsman.Injection{Action: "Pull", Trouble: trouble, Code: 995})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := c.Query(ctx, "root/cimv2", "SELECT * FROM X")
		cancel()
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if trouble == wsman.DropWithin {
			// The page was made and lost with the name of the rest.
			c.Close()
			b.Close()
			continue
		}
		eventually(t, name+": the enumeration to be released", func() bool { return b.Counters().OpenEnumerations == 0 })
	}
}

// A shell that cannot be deleted while the host does not answer is deleted when it
// answers again, and at the latest when the client is closed.
func TestAShellThatCouldNotBeDeletedIsDeletedLater(t *testing.T) {
	b := newBed(t, winrm.HTTPS, nil)
	c := b.dial()
	abandon := func() {
		b.Inject(wsman.Injection{Action: "Delete", Trouble: wsman.DropBefore, Times: -1})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := c.Run(ctx, winrm.Request{Command: "sleep 60"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second) // more than anything that is cleared away is asked for
		if open := b.Counters().OpenShells; open != 1 {
			t.Fatalf("%d shells are open", open)
		}
		b.Calm()
	}
	abandon()
	exercise(t, c)
	eventually(t, "the shell to be deleted beside the next command", func() bool { return b.Counters().OpenCommands == 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	b.nothingLeft()
	c = b.dial()
	abandon()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	b.nothingLeft()
}

// Three hundred calls, most of them disturbed or cancelled somewhere. Each ends
// in time; in the end nothing is open on the host, and no goroutine is left.
func TestThreeHundredTroubles(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i, scheme := range schemes {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		b := newBed(t, scheme, func(o *wsman.Options, _ *authority) {
			o.Limits.MaxOperationsPerShell, o.Limits.MaxTimeout = 7, 200*time.Millisecond
		})
		c := b.dial()
		tally := map[string]int{}
		for range 150 {
			trouble := randomTrouble(random)
			if trouble.Trouble == wsman.Unauthorized {
				b.Calm() // Two in a row, the second after a new log-on, are a refusal.
			}
			b.Inject(trouble)
			limit := time.Duration(1+random.IntN(400)) * time.Millisecond
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			err := randomCall(ctx, random, c)
			cancel()
			if took := time.Since(begun); took > limit+time.Second {
				t.Errorf("%s: ended %v after its time: %v", scheme, took-limit, err)
			}
			tally[class(err)]++
			var refused *transport.CredentialsError
			if errors.As(err, &refused) {
				t.Fatalf("%s: taken for a refusal: %v", scheme, err)
			}
			if random.IntN(3) == 0 {
				b.Calm()
			}
		}
		b.Calm()
		exercise(t, c)
		c.Close()
		b.nothingLeft()
		t.Logf("%s: %v, %+v", scheme, tally, b.Counters())
		if tally["ok"] < 10 || tally["lost"] < 10 {
			t.Errorf("%s: the mix was one-sided: %v", scheme, tally)
		}
	}
}

func class(err error) string {
	var lost *transport.LostError
	var fault *winrm.Fault
	var unreachable *transport.UnreachableError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &lost):
		return "lost"
	case errors.As(err, &fault):
		return "fault"
	case errors.As(err, &unreachable):
		return "unreachable"
	}
	return "other"
}

func randomTrouble(random *rand.Rand) wsman.Injection {
	actions := []string{"", "Create", "Command", "Send", "Receive", "Signal", "Delete", "Enumerate", "Pull", "M"}
	troubles := []wsman.Trouble{wsman.DropBefore, wsman.DropAfter, wsman.Delay, wsman.Fail, wsman.Hang, wsman.Flood, wsman.TooLarge,
		wsman.DropWithin, wsman.Dribble, wsman.Slow, wsman.Nonsense, wsman.Unauthorized}
	codes := []uint32{wsman.CodeBusy, wsman.CodeOperationTimeout, wsman.CodeInvalidSelectors, wsman.CodeMaxShells, wsman.CodeMaxOperations, 995}
	in := wsman.Injection{
		Action: actions[random.IntN(len(actions))], Trouble: troubles[random.IntN(len(troubles))], Skip: random.IntN(2),
		Code: codes[random.IntN(len(codes))], Pause: time.Duration(random.IntN(60)) * time.Millisecond,
	}
	if in.Code == wsman.CodeInvalidSelectors && (in.Action == "" || in.Action == "Delete") {
		in.Action = "Command" // A host that denies having the shell that it is to delete is believed.
	}
	return in
}

func randomCall(ctx context.Context, random *rand.Rand, c *winrm.Client) error {
	switch random.IntN(4) {
	case 0:
		_, err := c.Query(ctx, "root/cimv2", "SELECT * FROM X")
		return err
	case 1:
		_, err := c.Invoke(ctx, "root/cimv2", "X", nil, "M", nil)
		return err
	case 2:
		_, err := c.Run(ctx, winrm.Request{Command: "sleep 0.1; echo x"})
		return err
	}
	_, err := c.Run(ctx, winrm.Request{Command: "wc -c", Stdin: &zeros{left: 300_000}})
	return err
}
