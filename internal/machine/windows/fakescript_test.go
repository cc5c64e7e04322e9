package windows

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// fakeProcess is a process of a script. The wrapper's ends after some looks.
type fakeProcess struct {
	pid, parent int
	created     time.Time
	line        string
	looks       int
	finish      func() // nil: it does not end by itself
}

var (
	wrapperLine = regexp.MustCompile(`^cmd\.exe /d /s /c ""(.+)\\run-(\d+)\.cmd""$`)
	looksLine   = regexp.MustCompile(`(?m)^rem looks (\d+)\r?$`)
	exitLine    = regexp.MustCompile(`(?m)^exit /b (-?\d+)\r?$`)
	printLine   = regexp.MustCompile(`(?m)^echo (.*?)\r?$`)
	checkLine   = regexp.MustCompile(`^if exist "([^"]+)" \(call "([^"]+)"\) else \(echo isthmus-missing\)$`)
	epochInLine = regexp.MustCompile(`GTR "(\d{19})"`)
)

// startScript does what the wrapper of a script does, up to where the script runs.
func (h *fakeHost) startScript(dir, step, line string) int {
	h.pid++
	h.disk.now = h.disk.now.Add(time.Millisecond)
	p := &fakeProcess{pid: h.pid, parent: 4, created: h.disk.now, line: line}
	body := h.disk.files[key(dir+`\script-`+step+".cmd")]
	run := h.disk.files[key(dir+`\run-`+step+".cmd")]
	if run == nil || body == nil {
		h.t.Errorf("%s: the script is not delivered", line)
		return p.pid
	}
	if !h.disk.mkdir(dir + `\began-` + step) {
		h.did("refused " + step)
		return p.pid
	}
	mine := epochInLine.FindStringSubmatch(run.content)[1]
	for name := range h.disk.dirs {
		if epoch, found := strings.CutPrefix(name, `c:\programdata\isthmus\epoch\`); found && epoch > mine {
			h.disk.write(dir+`\ended-`+step, `{"stale":true}`)
			return p.pid
		}
	}
	h.disk.write(dir+`\began-`+step+`\at`, "{}")
	if env := h.disk.files[key(dir+`\env-`+step+".cmd")]; env != nil {
		h.given[step] = env.content
		delete(h.disk.files, key(dir+`\env-`+step+".cmd"))
	}
	h.did("script " + strings.TrimSpace(strings.SplitN(body.content, "\n", 2)[0]))
	if m := looksLine.FindStringSubmatch(body.content); m != nil {
		p.looks, _ = strconv.Atoi(m[1])
	}
	printed, code := interpret(body.content)
	p.finish = func() {
		h.disk.write(dir+`\output-`+step, printed)
		h.disk.write(dir+`\ended-`+step, fmt.Sprintf(`{"code":%d}`, code))
		delete(h.disk.files, key(dir+`\script-`+step+".cmd"))
	}
	h.running = append(h.running, p)
	if strings.Contains(body.content, "rem child") {
		h.pid++
		h.running = append(h.running, &fakeProcess{pid: h.pid, parent: p.pid, created: p.created, line: "child.exe", looks: 1 << 30})
	}
	if p.looks == 0 {
		h.passScripts()
	}
	return p.pid
}

func interpret(script string) (printed string, code int) {
	var out strings.Builder
	for _, m := range printLine.FindAllStringSubmatch(script, -1) {
		out.WriteString(m[1] + "\r\n")
	}
	printed = out.String()
	if m := exitLine.FindStringSubmatch(script); m != nil {
		code, _ = strconv.Atoi(m[1])
	}
	return printed, code
}

// passScripts lets scripts come to their end.
func (h *fakeHost) passScripts() {
	h.running = slices.DeleteFunc(h.running, func(p *fakeProcess) bool {
		p.looks--
		if p.finish == nil || p.looks >= 0 {
			return false
		}
		p.finish()
		return true
	})
}

func (h *fakeHost) terminate(handle string) int {
	h.running = slices.DeleteFunc(h.running, func(p *fakeProcess) bool { return strconv.Itoa(p.pid) == handle })
	h.did("terminate")
	return 0
}

func (h *fakeHost) reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot, h.running = h.boot.Add(time.Hour), nil
}

// runningScripts counts the processes of scripts.
func (h *fakeHost) runningScripts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.running)
}

// hangs says that a command runs a read-only script that never ends.
func (h *fakeHost) hangs(command string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := checkLine.FindStringSubmatch(command)
	if m == nil {
		return false
	}
	body := h.disk.files[key(strings.TrimSuffix(m[1], "check.cmd")+"script.cmd")]
	return body != nil && strings.Contains(body.content, "rem hang")
}

// call does what the wrapper of a read-only script does.
func (d *fakeDisk) call(path string, out *strings.Builder) int {
	body := d.files[key(strings.TrimSuffix(path, "check.cmd")+"script.cmd")]
	if body == nil {
		return 1
	}
	printed, code := interpret(body.content)
	fmt.Fprintf(out, "%s%s%d\r\n", printed, saysExit, code)
	panic(exitNow(code))
}

func (h *fakeHost) ends(lines *bufio.Scanner) winrm.Result {
	var asked struct {
		Path string
		Each int
	}
	lines.Scan()
	json.Unmarshal(lines.Bytes(), &asked)
	content := h.disk.files[key(asked.Path)].content
	n := min(asked.Each, len(content))
	line, _ := json.Marshal(map[string]any{"ok": true, "head": []byte(content[:n]), "tail": []byte(content[len(content)-n:])})
	return winrm.Result{Stdout: line}
}

var configLine = regexp.MustCompile(`(?m)^(url|output|max-filesize) = "(.*)"$`)

func (h *fakeHost) curl(stdin io.Reader) winrm.Result {
	if h.web == nil {
		return winrm.Result{ExitCode: exitNoCurl}
	}
	config, _ := io.ReadAll(stdin)
	set := map[string]string{}
	for _, m := range configLine.FindAllStringSubmatch(string(config), -1) {
		set[m[1]] = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(m[2])
	}
	content, found := h.web[set["url"]]
	if !found {
		return winrm.Result{ExitCode: 22, Stderr: []byte("curl: (22) The requested URL returned error: 404\r\n")}
	}
	h.disk.write(set["output"], content)
	h.did("download")
	return winrm.Result{}
}
