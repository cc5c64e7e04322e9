package wine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

// boot starts a machine for one test. Where Wine is missing and cannot be
// installed, the test is skipped, but fails in CI.
func boot(t *testing.T) *Machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, _, err := install(ctx, os.Stderr); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("Wine is not here: %v", err)
	}
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	start := time.Now()
	m, err := Boot(ctx, Config{Dir: filepath.Join(t.TempDir(), "machine"), Name: "TESTBOX", Janitor: j, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("booted in %s", time.Since(start))
	t.Cleanup(func() { shutdown(t, m) })
	return m
}

// shutdown powers off and looks for what should not be there any more.
func shutdown(t *testing.T, m *Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for _, pid := range inPrefix(t, m.prefix()) {
		t.Errorf("process %s of the machine is still there", pid)
	}
}

// inPrefix lists the processes that have a prefix in their environment.
func inPrefix(t *testing.T, prefix string) []string {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(environment), "WINEPREFIX="+prefix+"\x00") {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

func run(t *testing.T, m *Machine, line, input string) (stdout, stderr string, code uint32, err error) {
	t.Helper()
	p, err := m.Run(Command{Line: line, Dir: `C:\windows`, Env: []string{"GREETING", "two words"}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(p.Stdin(), input)
		_ = p.Stdin().Close()
	}()
	errors := make(chan string)
	go func() {
		text, _ := io.ReadAll(p.Stderr())
		errors <- string(text)
	}()
	out, readErr := io.ReadAll(p.Stdout())
	if readErr != nil {
		t.Fatal(readErr)
	}
	stderr = <-errors
	code, err = p.Wait()
	return string(out), stderr, code, err
}

func TestMachine(t *testing.T) {
	m := boot(t)
	t.Run("Commands", func(t *testing.T) { commands(t, m) })
	t.Run("CommandThatIsNotThere", func(t *testing.T) {
		_, _, _, err := run(t, m, "nowhere.exe", "")
		if start := (*StartError)(nil); !errors.As(err, &start) || start.Code != 2 {
			t.Errorf("error %v, want a start error with code 2", err)
		}
	})
	t.Run("KillTakesTheChildren", func(t *testing.T) { killTakesTheChildren(t, m) })
	t.Run("ProviderComesBack", func(t *testing.T) { providerComesBack(t, m) })
	t.Run("Path", func(t *testing.T) { paths(t, m) })
	t.Run("Restart", func(t *testing.T) { restart(t, m) })
	t.Run("ServerDies", func(t *testing.T) { serverDies(t, m) })
}

func commands(t *testing.T, m *Machine) {
	for _, test := range []struct {
		line, input    string
		stdout, stderr string
		code           uint32
	}{
		{line: "cmd.exe /c echo hello", stdout: "hello\r\n"},
		{line: "cmd.exe /c exit 70000", code: 70000},
		{line: "cmd.exe /c echo %GREETING%", stdout: "two words\r\n"},
		{line: "cmd.exe /c hostname", stdout: "TESTBOX\r\n"},
		{line: "cmd.exe /c echo oops 1>&2", stderr: "oops \r\n"},
		{line: "cmd.exe /c sc.exe query nowhere >nul", code: 1060},
		{line: "cmd.exe /q /k prompt $s", input: "exit 7\r\n", code: 7},
	} {
		stdout, stderr, code, err := run(t, m, test.line, test.input)
		if err != nil || stdout != test.stdout || stderr != test.stderr || code != test.code {
			t.Errorf("%s: %q, %q, %d, %v; want %q, %q, %d", test.line, stdout, stderr, code, err, test.stdout, test.stderr, test.code)
		}
	}
}

func killTakesTheChildren(t *testing.T, m *Machine) {
	p, err := m.Run(Command{Line: "cmd.exe /c cmd.exe /q /k prompt $s", Dir: `C:\`})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the child to run", func() bool { return len(named(t, m, "cmd.exe")) == 2 })
	p.Kill()
	if _, err := p.Wait(); err == nil {
		t.Error("a killed command has an exit code")
	}
	await(t, "the child to end", func() bool { return len(named(t, m, "cmd.exe")) == 0 })
}

func providerComesBack(t *testing.T, m *Machine) {
	before := named(t, m, "WmiPrvSE.exe")
	if len(before) != 1 {
		t.Fatalf("providers %v, want one", before)
	}
	if _, err := m.provider.Call(t.Context(), "process-terminate", before[0], "1"); !errors.Is(err, errProviderEnded) {
		t.Errorf("ending the provider: %v", err)
	}
	if after := named(t, m, "WmiPrvSE.exe"); len(after) != 1 || after[0] == before[0] {
		t.Errorf("providers %v after %v", after, before)
	}
}

// serverDies kills the Wine server, as no part of the test bed does.
func serverDies(t *testing.T, m *Machine) {
	for _, pid := range inPrefix(t, m.prefix()) {
		line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		if n, atoi := strconv.Atoi(pid); err == nil && atoi == nil && strings.HasPrefix(string(line), m.server+"\x00-f") {
			if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	await(t, "the machine to notice", func() bool { return m.on() != nil })
	if _, err := m.provider.Call(t.Context(), "ping"); err == nil {
		t.Error("a machine without a server answers")
	}
	if _, err := m.Run(Command{Line: "cmd.exe /c exit", Dir: `C:\`}); !errors.Is(err, errOff) {
		t.Errorf("a machine without a server runs a command: %v", err)
	}
	await(t, "the clients to end", func() bool { return len(inPrefix(t, m.prefix())) == 0 })
}

func restart(t *testing.T, m *Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if answer, err := m.provider.Call(ctx, "registry-create-key", "0x80000002", `SOFTWARE\Kept`); err != nil || answer.Code != 0 {
		t.Fatalf("%v, %v", answer, err)
	}
	shutdown(t, m)
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if answer, err := m.provider.Call(ctx, "registry-keys", "0x80000002", `SOFTWARE\Kept`); err != nil || answer.Code != 0 {
		t.Errorf("the registry has forgotten a key: %v, %v", answer, err)
	}
}

// named lists the PIDs of the processes of one program.
func named(t *testing.T, m *Machine, program string) []string {
	t.Helper()
	answer, err := m.provider.Call(t.Context(), "processes")
	if err != nil || answer.Code != 0 {
		t.Fatalf("%v, %v", answer, err)
	}
	var pids []string
	for _, record := range answer.Records {
		if strings.EqualFold(record[2], program) {
			pids = append(pids, record[0])
		}
	}
	return pids
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func paths(t *testing.T, m *Machine) {
	for windows, want := range map[string]string{
		`C:\WINDOWS\System32\SC.EXE`: "windows/system32/sc.exe",
		`c:/windows/New Dir\File`:    "windows/New Dir/File",
		`C:\`:                        "",
	} {
		if path, err := m.Path(windows); err != nil || path != filepath.Join(m.drive(), want) {
			t.Errorf("Path(%q) = %q, %v", windows, path, err)
		}
	}
	for _, windows := range []string{`D:\x`, `\\server\share\x`, `windows`, `C:\..\x`, `C:\a\..\..\x`, `C:\a:stream`, `\\?\unix\etc\passwd`, ""} {
		if path, err := m.Path(windows); !errors.Is(err, ErrPath) {
			t.Errorf("Path(%q) = %q, %v", windows, path, err)
		}
	}
}

func TestWords(t *testing.T) {
	for _, word := range []string{"", Absent, "plain", `C:\a b\"q" %x%`, "Grüße €\n", "~", "%"} {
		line := encode(word)
		if strings.ContainsAny(line, " \n\"") {
			t.Errorf("encode(%q) = %q", word, line)
		}
		if back := decode(line); back != word {
			t.Errorf("decode(encode(%q)) = %q", word, back)
		}
	}
}

// TestCommandThatDoesNotBegin: without a place for its result the program that runs it ends at once, each time.
func TestCommandThatDoesNotBegin(t *testing.T) {
	m := boot(t)
	temp, err := m.Path(`C:\windows\temp`)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, temp+"-away"); err != nil {
		t.Fatal(err)
	}
	p, err := m.Run(Command{Line: "cmd.exe /c exit", Dir: `C:\`})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(); err == nil {
		t.Errorf("exit code %d", code)
	}
	if err := os.Rename(temp+"-away", temp); err != nil {
		t.Fatal(err)
	}
	if p, err = m.Run(Command{Line: "cmd.exe /c exit 7", Dir: `C:\`}); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(); err != nil || code != 7 {
		t.Errorf("exit code %d, error %v", code, err)
	}
}
