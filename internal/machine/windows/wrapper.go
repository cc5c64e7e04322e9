package windows

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// script is a user's script as files on the host. They are delivered on standard
// input into a directory that only administrators can read, so that neither the
// script nor its environment is in an argument.
type script struct {
	run   string // the wrapper
	files []machine.PutFile
}

// newScript writes the files of the script of a job's step: the script itself, its
// environment, and the wrapper that runs it.
func newScript(l layout, id string, step int, epoch int64, s machine.RunScript) (script, error) {
	name := func(kind string) string { return l.run(id, step, kind) }
	program, err := parseInterpreter(s.Interpreter)
	if err != nil {
		return script{}, err
	}
	text, err := program.text(string(s.Text))
	if err != nil {
		return script{}, err
	}
	environment, err := environmentFile(s.Environment)
	if err != nil {
		return script{}, err
	}
	body, env, run := name("script")+program.extension(), name("env")+".cmd", name("run")+".cmd"
	began, ended := name("began"), name("ended")
	wrapper := lines(
		"@echo off",
		"setlocal DisableDelayedExpansion",
		// Of all processes that run this file, one gets past here.
		"mkdir "+quoted(began)+" 2>nul",
		"if errorlevel 1 exit",
		"for /d %%e in ("+quoted(l.epochs()+`\*`)+`) do if "%%~nxe" GTR "`+base(l.epoch(epoch))+`" set isthmus_stale=1`,
		"if defined isthmus_stale goto stale",
		"chcp 65001 >nul 2>nul",
		"echo {}>"+quoted(began+`\at`),
		"if exist "+quoted(env)+" call "+quoted(env),
		"del /f /q "+quoted(env)+" 2>nul",
		program.line(body)+" >"+quoted(name("output"))+" 2>&1",
		`echo {"code":%errorlevel%}>`+quoted(ended+".tmp"),
		"ren "+quoted(ended+".tmp")+" "+base(ended),
		"del /f /q "+quoted(body)+" 2>nul",
		"exit",
		":stale",
		"del /f /q "+quoted(body)+" "+quoted(env)+" 2>nul",
		`echo {"stale":true}>`+quoted(ended+".tmp"),
		"ren "+quoted(ended+".tmp")+" "+base(ended),
	)
	made := script{run: run, files: []machine.PutFile{file(body, text)}}
	if environment != "" {
		made.files = append(made.files, file(env, environment))
	}
	made.files = append(made.files, file(run, wrapper))
	return made, nil
}

func file(path, content string) machine.PutFile {
	sum := sha256.Sum256([]byte(content))
	return machine.PutFile{Path: path, Content: machine.Secret(content), SHA256: hex.EncodeToString(sum[:])}
}

func lines(all ...string) string { return strings.Join(all, "\r\n") + "\r\n" }

func base(windows string) string { return windows[strings.LastIndexByte(windows, '\\')+1:] }

// interpreter is the program that reads a script: cmd.exe and PowerShell read it
// from a file, because fed on standard input they print a banner or lose its exit
// code, and any other program on its standard input.
type interpreter struct {
	kind    interpreterKind
	program string // as it stands in a batch file
}

type interpreterKind int

const (
	batch interpreterKind = iota
	powershell
	onStdin
)

var (
	programShape  = regexp.MustCompile(`^(?i)((?:[a-z]:\\)?[a-z0-9._\\ -]*?[a-z0-9._-]+\.exe)((?: [a-z0-9._\\-]+)*)$`)
	absoluteShape = regexp.MustCompile(`^[A-Za-z]:\\`)
)

func parseInterpreter(text string) (interpreter, error) {
	if text == "" {
		text = "cmd.exe"
	}
	found := programShape.FindStringSubmatch(text)
	if found == nil {
		return interpreter{}, fmt.Errorf("interpreter %q: want the path of an .exe file and, after it, arguments of letters, digits and the signs . _ - \\", text)
	}
	program, arguments := found[1], found[2]
	name := strings.ToLower(base(program))
	known := map[string]interpreter{
		"cmd.exe":        {batch, `%SystemRoot%\System32\cmd.exe`},
		"powershell.exe": {powershell, `%SystemRoot%\System32\WindowsPowerShell\v1.0\powershell.exe`},
		"pwsh.exe":       {powershell, ""},
	}
	i, special := known[name]
	switch {
	case special && arguments != "":
		return i, fmt.Errorf("interpreter %q: %s takes no arguments here", text, name)
	case absoluteShape.MatchString(program):
		if err := checkPath(program); err != nil {
			return i, fmt.Errorf("interpreter: %w", err)
		}
		i.program = program
	case i.program == "" || program != path.Base(strings.ReplaceAll(program, `\`, "/")):
		return i, fmt.Errorf("interpreter %q: want an absolute path, cmd.exe or powershell.exe", text)
	}
	if !special {
		i.kind = onStdin
	}
	i.program = quoted(i.program) + arguments
	return i, nil
}

// file is the program without its arguments.
func (i interpreter) file() string { return i.program[:strings.LastIndexByte(i.program, '"')+1] }

func (i interpreter) extension() string {
	return map[interpreterKind]string{batch: ".cmd", powershell: ".ps1", onStdin: ".txt"}[i.kind]
}

// line runs a script, without input of its own. A batch file runs in a cmd.exe of its own, so that
// its "exit" does not end the wrapper.
func (i interpreter) line(body string) string {
	switch i.kind {
	case batch:
		return i.program + ` /d /s /c "` + quoted(body) + `" <nul`
	case powershell:
		return i.program + " -NoProfile -NonInteractive -ExecutionPolicy Bypass -File " + quoted(body) + " <nul"
	default:
		return i.program + " <" + quoted(body)
	}
}

// text is the script as its interpreter reads it from a file: cmd.exe finds labels
// only in lines that end in CR LF, and Windows PowerShell takes a file without a
// byte order mark for one in the code page of the country.
func (i interpreter) text(script string) (string, error) {
	if !utf8.ValidString(script) || strings.ContainsRune(script, 0) {
		return "", fmt.Errorf("the script is no text: it holds a NUL, or is not UTF-8")
	}
	switch i.kind {
	case batch:
		return strings.ReplaceAll(strings.ReplaceAll(script, "\r\n", "\n"), "\n", "\r\n") + "\r\n", nil
	case powershell:
		return "\ufeff" + script, nil
	default:
		return script, nil
	}
}

// maxSet is less than the limit of cmd.exe on one line, 8191.
const maxSet = 8000

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reserved are names that cmd.exe answers itself, and those that the wrapper needs.
var reserved = map[string]bool{
	"CD": true, "CMDCMDLINE": true, "CMDEXTVERSION": true, "COMSPEC": true, "DATE": true, "ERRORLEVEL": true,
	"HIGHESTNUMANODENUMBER": true, "ISTHMUS_STALE": true, "RANDOM": true, "SYSTEMROOT": true, "TIME": true,
}

// environmentFile sets variables. A variable without a value is not there: that is how Windows has it.
func environmentFile(variables []machine.Variable) (string, error) {
	all := make([]string, 0, len(variables))
	for _, v := range variables {
		line, err := setLine(v)
		if err != nil {
			return "", err
		}
		all = append(all, line)
	}
	if len(all) == 0 {
		return "", nil
	}
	return lines(all...), nil
}

// setLine sets one variable in a batch file. Between quotation marks only the
// percent sign means something there; a value that has quotation marks itself is
// written without, every sign of cmd.exe behind a caret.
func setLine(v machine.Variable) (string, error) {
	value := string(v.Value)
	switch {
	case !variableName.MatchString(v.Name):
		return "", fmt.Errorf("variable %q: want a letter, then letters, digits and underscores", v.Name)
	case reserved[strings.ToUpper(v.Name)]:
		return "", fmt.Errorf("variable %s means something to cmd.exe and cannot be set for a script", v.Name)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return control(r) && r != '\t' }):
		return "", fmt.Errorf("the value of variable %s holds a line break or another control character, which cmd.exe cannot take: put it into a file and name that", v.Name)
	}
	value = strings.ReplaceAll(value, "%", "%%")
	line := `set "` + v.Name + "=" + value + `"`
	if strings.Contains(value, `"`) {
		line = "set " + v.Name + "=" + caret.Replace(value)
	}
	if len(line) > maxSet {
		return "", fmt.Errorf("the value of variable %s is too long for cmd.exe", v.Name)
	}
	return line, nil
}

var caret = strings.NewReplacer(`^`, `^^`, `"`, `^"`, `&`, `^&`, `|`, `^|`, `<`, `^<`, `>`, `^>`, `(`, `^(`, `)`, `^)`)
