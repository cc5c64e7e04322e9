package command

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// Drive is where the files are.
type Drive interface {
	// Path is the Linux path of a file on drive C:.
	Path(windows string) (string, error)
}

// Shell is a stand-in for powershell.exe.
type Shell struct {
	Drive Drive
	// Running tells whether a file is the program of a process.
	Running func(windows string) (bool, error)
	// Full has the drive take no more content.
	Full bool
}

// ErrLink is the error of a Drive for a path that leads through a link.
var ErrLink = errors.New("leads through a link")

// IsPowerShell tells whether a command line runs Windows PowerShell.
func IsPowerShell(line string) bool {
	program, _ := first(line)
	program = strings.ToLower(program[strings.LastIndexByte(program, '\\')+1:])
	return program == "powershell.exe" || program == "powershell"
}

// first splits a command line after its first word, which may be quoted.
func first(line string) (word, rest string) {
	line = strings.TrimSpace(line)
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		word, rest, _ = strings.Cut(quoted, `"`)
		return word, strings.TrimSpace(rest)
	}
	word, rest, _ = strings.Cut(line, " ")
	return word, strings.TrimSpace(rest)
}

// Run performs a command line of powershell.exe and returns its exit code.
func (s *Shell) Run(line string, stdin io.Reader, stdout, stderr io.Writer) uint32 {
	script, err := script(line)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s\r\n", err) // nobody else can be told
		return 1
	}
	name, _, _ := strings.Cut(script, "\n")
	switch strings.TrimRight(name, "\r") {
	case "# isthmus:deliver v2":
		return s.deliver(stdin, stdout)
	case "# isthmus:ends v1":
		return s.ends(stdin, stdout)
	case "# isthmus:hash v1":
		return s.hash(stdin, stdout)
	}
	_, _ = fmt.Fprint(stderr, "this machine has no PowerShell, only a stand-in that knows the scripts of Isthmus\r\n")
	return 1
}

// script is what -EncodedCommand carries.
func script(line string) (string, error) {
	_, rest := first(line)
	for rest != "" {
		var word string
		word, rest = first(rest)
		if !isEncodedCommand(word) {
			continue
		}
		encoded, _ := first(rest)
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(data)%2 != 0 {
			return "", fmt.Errorf("cannot process the command because the value specified with -EncodedCommand is not properly encoded")
		}
		units := make([]uint16, len(data)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(data[2*i:])
		}
		return string(utf16.Decode(units)), nil
	}
	return "", fmt.Errorf("this machine has no PowerShell, only a stand-in that needs -EncodedCommand")
}

// isEncodedCommand knows the switch and the beginnings of it that PowerShell takes.
func isEncodedCommand(word string) bool {
	word = strings.ToLower(word)
	return len(word) >= 2 && (word[0] == '-' || word[0] == '/') && strings.HasPrefix("encodedcommand", word[1:]) || word == "-ec"
}
