package windows

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fakeDisk is a drive with as much of cmd.exe as the machine's lines need: &,
// parentheses, if, redirection, and a few commands. What it does
// not know is an error, so that no line goes by unnoticed.
type fakeDisk struct {
	files map[string]*fakeFile // by lower-case path
	dirs  map[string]bool
	now   time.Time
	// locked are files that can be renamed but not replaced, as a running program.
	locked map[string]bool
	// full has nothing more be written, and private says who may enter a directory.
	full    bool
	private map[string]bool
	// links are those of the directories that lead elsewhere.
	links map[string]bool
}

type fakeFile struct {
	name, content string
	modified      time.Time
}

func newFakeDisk() *fakeDisk {
	return &fakeDisk{files: map[string]*fakeFile{}, dirs: map[string]bool{`c:`: true}, now: time.Unix(1_750_000_000, 0), locked: map[string]bool{}, private: map[string]bool{}, links: map[string]bool{}}
}

func (d *fakeDisk) write(path, content string) {
	d.now = d.now.Add(time.Millisecond)
	d.mkdir(path[:strings.LastIndexByte(path, '\\')])
	d.files[key(path)] = &fakeFile{name: path, content: content, modified: d.now}
}

func (d *fakeDisk) mkdir(path string) bool {
	if d.dirs[key(path)] {
		return false
	}
	for i, r := range path {
		if r == '\\' {
			d.dirs[key(path[:i])] = true
		}
	}
	d.dirs[key(path)] = true
	return true
}

func (d *fakeDisk) exists(path string) bool { return d.dirs[key(path)] || d.files[key(path)] != nil }

// under are the paths below a directory.
func (d *fakeDisk) under(path string) []string {
	var found []string
	for name := range d.files {
		if strings.HasPrefix(name, key(path)+`\`) {
			found = append(found, name)
		}
	}
	for name := range d.dirs {
		if strings.HasPrefix(name, key(path)+`\`) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// run carries out a line.
func (d *fakeDisk) run(line string) (stdout string, code int, err error) {
	p := &cmdParser{disk: d, rest: line}
	defer func() {
		switch recovered := recover().(type) {
		case nil:
		case exitNow:
			stdout, code = p.out.String(), int(recovered)
		case error:
			err = fmt.Errorf("line %q: %w", line, recovered)
		default:
			panic(recovered)
		}
	}()
	p.sequence(true)
	if p.rest != "" {
		return "", 0, fmt.Errorf("line %q: stuck at %q", line, p.rest)
	}
	return p.out.String(), p.code, nil
}

type exitNow int

// cmdParser reads and carries out a line at once; act tells whether a part is only read.
type cmdParser struct {
	disk *fakeDisk
	rest string
	out  strings.Builder
	code int
}

func (p *cmdParser) space() { p.rest = strings.TrimLeft(p.rest, " ") }

func (p *cmdParser) sequence(act bool) {
	p.primary(act)
	for p.space(); strings.HasPrefix(p.rest, "&"); p.space() {
		p.rest = p.rest[1:]
		p.primary(act)
	}
}

var condition = regexp.MustCompile(`^if (?:(not )?exist ("[^"]*")|errorlevel 1) `)

func (p *cmdParser) primary(act bool) {
	p.space()
	if strings.HasPrefix(p.rest, "(") {
		p.rest = p.rest[1:]
		p.sequence(act)
		p.space()
		if !strings.HasPrefix(p.rest, ")") {
			panic(fmt.Errorf("no closing parenthesis at %q", p.rest))
		}
		p.rest = p.rest[1:]
		return
	}
	if m := condition.FindStringSubmatch(p.rest); m != nil {
		p.rest = p.rest[len(m[0]):]
		holds := p.code >= 1
		if m[2] != "" {
			holds = p.disk.exists(unquote(m[2])) != (m[1] != "")
		}
		p.primary(act && holds)
		p.space()
		if strings.HasPrefix(p.rest, "else ") {
			p.rest = p.rest[5:]
			p.primary(act && !holds)
		}
		return
	}
	command := p.simple()
	if act {
		p.carryOut(command)
	}
}

// simple cuts off a command at the next operator outside of quotation marks.
func (p *cmdParser) simple() string {
	inside := false
	for i, r := range p.rest {
		switch {
		case r == '"':
			inside = !inside
		case !inside && (r == '&' || r == '|' || r == ')'):
			command := p.rest[:i]
			p.rest = p.rest[i:]
			return command
		}
	}
	command := p.rest
	p.rest = ""
	return command
}

var redirection = regexp.MustCompile(`\s*(2?)>("[^"]*"|nul)\s*$`)

func (p *cmdParser) carryOut(command string) {
	target := ""
	for {
		m := redirection.FindStringSubmatchIndex(command)
		if m == nil {
			break
		}
		if m[2] == m[3] {
			target = unquote(command[m[4]:m[5]])
		}
		command = command[:m[0]]
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(command), " ")
	before := p.out.String()
	if code := p.builtin(word, rest); code >= 0 {
		p.code = code
	}
	if target == "" {
		return
	}
	printed := strings.TrimPrefix(p.out.String(), before)
	p.out.Reset()
	p.out.WriteString(before)
	switch {
	case target == "nul":
	case p.disk.full:
		p.code = 1
	default:
		p.disk.write(target, printed)
	}
}

func unquote(text string) string { return strings.Trim(strings.TrimSpace(text), `"`) }

var twoPaths = regexp.MustCompile(`^"([^"]*)" "([^"]*)"$`)

func (p *cmdParser) builtin(word, rest string) int {
	d := p.disk
	path := unquote(rest)
	switch word {
	case "echo":
		p.out.WriteString(rest + "\r\n")
		return keepCode
	case "exit":
		code, _ := strconv.Atoi(strings.TrimSpace(rest))
		panic(exitNow(code))
	case "mkdir":
		return failUnless(d.mkdir(path))
	case "type":
		file := d.files[key(path)]
		if file == nil {
			return 1
		}
		p.out.WriteString(file.content)
	case "dir":
		path = unquote(strings.TrimPrefix(rest, "/b "))
		for _, name := range d.under(path) {
			if base := name[len(path)+1:]; !strings.Contains(base, `\`) {
				p.out.WriteString(base + "\r\n")
			}
		}
	case "move", "ren":
		return p.rename(word, strings.TrimPrefix(rest, "/y "))
	case "del":
		return p.del(unquote(strings.TrimPrefix(rest, "/f /q ")))
	case "rmdir":
		return p.rmdir(rest)
	case "icacls":
		return p.icacls(rest)
	case "fsutil":
		return failUnless(d.links[key(unquote(strings.TrimPrefix(rest, "reparsepoint query ")))])
	case "call":
		return p.disk.call(path, &p.out)
	default:
		panic(fmt.Errorf("unknown command %q %q", word, rest))
	}
	return 0
}

// keepCode: some commands leave the exit code of an earlier one.
const keepCode = -1

func failUnless(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

func (p *cmdParser) rename(word, rest string) int {
	m := twoPaths.FindStringSubmatch(strings.TrimSpace(rest))
	if m == nil {
		panic(fmt.Errorf("%s %q", word, rest))
	}
	from, to := m[1], m[2]
	if word == "ren" {
		to = from[:strings.LastIndexByte(from, '\\')+1] + to
	}
	file := p.disk.files[key(from)]
	if file == nil || word == "ren" && p.disk.exists(to) {
		return 1
	}
	delete(p.disk.files, key(from))
	file.name = to
	p.disk.files[key(to)] = file
	return 0
}

func (p *cmdParser) rmdir(rest string) int {
	d := p.disk
	path, all := strings.CutPrefix(rest, "/s /q ")
	path = unquote(path)
	if !d.dirs[key(path)] || !all && len(d.under(path)) > 0 {
		return 1
	}
	for _, name := range d.under(path) {
		delete(d.files, name)
		delete(d.dirs, name)
	}
	delete(d.dirs, key(path))
	return 0
}

// del knows the question mark.
func (p *cmdParser) del(pattern string) int {
	shape := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(key(pattern)), `\?`, ".") + "$")
	for name := range p.disk.files {
		if shape.MatchString(name) && !p.disk.locked[name] {
			delete(p.disk.files, name)
		}
	}
	return 0
}

var icaclsShape = regexp.MustCompile(`^"([^"]*)" (/setowner \*S-1-5-32-544 /t /l /q|/reset /t /l /q|/inheritance:r /grant:r "\*S-1-5-32-544:\(OI\)\(CI\)F" "\*S-1-5-18:\(OI\)\(CI\)F" /l /q)$`)

// icacls is the one of the three ways in which it is used.
func (p *cmdParser) icacls(rest string) int {
	m := icaclsShape.FindStringSubmatch(strings.TrimSpace(rest))
	if m == nil {
		panic(fmt.Errorf("icacls %q", rest))
	}
	if !p.disk.dirs[key(m[1])] {
		return 1
	}
	p.disk.private[key(m[1])] = strings.HasPrefix(m[2], "/inheritance:r")
	return 0
}
