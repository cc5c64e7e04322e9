package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

func newJanitor(t *testing.T) *janitor.Janitor {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func TestStopEndsTheProgram(t *testing.T) {
	p, err := Start(newJanitor(t), t.TempDir(), "sleeper", nil, "sleep", "300")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Fatalf("a running program has an error: %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("the program has not exited")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(newJanitor(t), dir, "stubborn", nil, "sh", "-c", `trap "" TERM; touch ready; while :; do sleep 1; done`)
	if err != nil {
		t.Fatal(err)
	}
	waitFile(t, p, filepath.Join(dir, "ready"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v, want a deadline", err)
	}
	if p.Err() == nil {
		t.Error("the program still runs")
	}
}

func TestEarlyDeathShowsTheLog(t *testing.T) {
	p, err := Start(newJanitor(t), t.TempDir(), "broken", []string{"REASON=no such thing"}, "sh", "-c",
		`i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; echo "$REASON" >&2; exit 3`)
	if err != nil {
		t.Fatal(err)
	}
	err = p.WaitReady(t.Context(), func(context.Context) error { return errors.New("not yet") })
	if err == nil {
		t.Fatal("a program that died is ready")
	}
	for _, want := range []string{"broken", "exit status 3", "no such thing", "line 499"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "line 0\n") || len(err.Error()) > 2*tailBytes {
		t.Errorf("the error holds more than the end of the log (%d bytes)", len(err.Error()))
	}
}

func TestStartOfWhatIsNotThere(t *testing.T) {
	if _, err := Start(newJanitor(t), t.TempDir(), "nothing", nil, "/nonexistent/program"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start = %v, want that it does not exist", err)
	}
}

func TestArgumentsArriveUnchanged(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(newJanitor(t), dir, "printer", nil, "printf", `<%s>`, "a b", `$(id) "'\`, "")
	if err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
	log, err := os.ReadFile(p.Log())
	if err != nil {
		t.Fatal(err)
	}
	if want := `<a b><$(id) "'\><>`; string(log) != want {
		t.Errorf("log = %q, want %q", log, want)
	}
}

func TestWaitHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answers++; answers < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	defer server.Close()      //nolint:errcheck // the end of the test
	p, err := Start(newJanitor(t), t.TempDir(), "sleeper", nil, "sleep", "300")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitHTTP(t.Context(), http.DefaultClient, "http://"+listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if answers != 3 {
		t.Errorf("ready after %d answers, want 3", answers)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*interval)
	defer cancel()
	if err := p.WaitHTTP(ctx, http.DefaultClient, "http://127.0.0.1:1/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitHTTP of a closed port = %v, want a deadline", err)
	}
}

// TestKilledOwner runs this test binary again as an owner and kills it with SIGKILL.
func TestKilledOwner(t *testing.T) {
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$")
	owner.Env = append(os.Environ(), "PROCESS_OWNER="+t.TempDir())
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child := strings.TrimSpace(strings.TrimPrefix(line, "child "))
	if _, err := os.Stat("/proc/" + child); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	for deadline := time.Now().Add(20 * time.Second); alive(child); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the child %s still runs", child)
		}
	}
}

// TestOwner is the owner that TestKilledOwner starts; by itself it has nothing to do.
func TestOwner(t *testing.T) {
	dir := os.Getenv("PROCESS_OWNER")
	if dir == "" {
		return // a helper process, and nothing when TestKilledOwner does not start it
	}
	j, err := janitor.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(j, dir, "sleeper", nil, "sleep", "300")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("child " + strconv.Itoa(p.PID()))
	select {}
}

func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func waitFile(t *testing.T, p *Process, path string) {
	t.Helper()
	err := p.WaitReady(t.Context(), func(context.Context) error {
		_, err := os.Stat(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
