package windows

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWQLString(t *testing.T) {
	for text, want := range map[string]string{
		`Orders`:            `'Orders'`,
		`O'Brien`:           `'O\'Brien'`,
		`c:\a\b.txt`:        `'c:\\a\\b.txt'`,
		`x' OR Name LIKE '`: `'x\' OR Name LIKE \''`,
		`\`:                 `'\\'`,
		`ä"%`:               `'ä"%'`,
	} {
		got, err := wqlString(text)
		if err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"a\nb", "\x00", "\xff", "\x7f"} {
		if got, err := wqlString(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// A literal ends where it began, whatever stands between.
func FuzzWQLString(f *testing.F) {
	f.Add(`a'b\c`)
	literal := regexp.MustCompile(`^'(?:[^'\\]|\\.)*'$`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := wqlString(text)
		if err != nil {
			return
		}
		if !literal.MatchString(got) {
			t.Errorf("%q became %s", text, got)
		}
		back := regexp.MustCompile(`\\(.)`).ReplaceAllString(got[1:len(got)-1], "$1")
		if back != text {
			t.Errorf("%q reads back as %q", text, back)
		}
	})
}

func TestCheckPath(t *testing.T) {
	for _, path := range []string{`C:\ProgramData\isthmus`, `d:\a b\c&d^e(1);,=.txt`, `C:\Ünïcode\$x`} {
		if err := checkPath(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{
		``, `C:`, `C:\`, `C:x`, `\\server\share\x`, `\\?\C:\x`, `C:\a"b`, `C:\%PATH%`, `C:\a!b!`, `C:\a*`, `C:\a?`, `C:\a|b`, `C:\a>b`,
		`C:/a`, `C:\a/b`, `C:\a:stream`, `C:\a\..\b`, `C:\.`, `C:\a\`, `C:\\a`, `C:\a.`, `C:\a \b`, "C:\\a\nb", "C:\\\xff", `C:\` + strings.Repeat("x", 300),
	} {
		if err := checkPath(path); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}

func TestCmdQuote(t *testing.T) {
	for _, word := range []string{``, `a"b`, `%PATH%`, `a!b`, "a\nb", `a\`, "\xff"} {
		if got, err := cmdQuote(word); err == nil {
			t.Errorf("%q: %s", word, got)
		}
	}
	if got, err := cmdQuote(`MSSQL$A & B`); err != nil || got != `"MSSQL$A & B"` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCmdJSON(t *testing.T) {
	type value struct {
		A string `json:"a"`
	}
	for text, want := range map[string]string{
		`plain (x)`:    `{"a":"plain \u0028x\u0029"}`,
		`"q" & <b> |`:  `{"a":"\u0022q\u0022 \u0026 \u003cb\u003e \u007c"}`,
		`%PATH% ^ !x!`: `{"a":"\u0025PATH\u0025 \u005e \u0021x\u0021"}`,
		`C:\new`:       `{"a":"C:\\new"}`,
		"a\r\nb":       `{"a":"a\r\nb"}`,
		"ä 😀":          `{"a":"\u00e4 \ud83d\ude00"}`,
		`\"`:           `{"a":"\\\u0022"}`,
	} {
		got, err := cmdJSON(value{A: text})
		if err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

// Whatever a value holds, cmd.exe sees ASCII in which everything special stands
// between balanced quotation marks, and the reader gets the value back.
func FuzzCmdJSON(f *testing.F) {
	f.Add(`a"b\c%d^e!`, "k")
	f.Fuzz(func(t *testing.T, text, other string) {
		line, err := cmdJSON(map[string]string{"text": text, "other": other})
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for _, r := range line {
			switch {
			case r == '"':
				inside = !inside
			case r < 0x20 || r > 0x7e || strings.ContainsRune(`%!^&|<>()?`, r):
				t.Fatalf("%q holds %q", line, r)
			case !inside && !strings.ContainsRune(`{}:,`, r):
				t.Fatalf("%q has %q outside of quotation marks", line, r)
			}
		}
		if inside {
			t.Fatalf("%q is not balanced", line)
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(line), &back); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(text, "\ufffd"); back["text"] != want && back["text"] != eachInvalid(text) {
			t.Fatalf("%q reads back as %q", text, back["text"])
		}
	})
}

// eachInvalid replaces invalid bytes one by one, as encoding/json does.
func eachInvalid(text string) string { return string([]rune(text)) }

func TestArgvQuote(t *testing.T) {
	for text, want := range map[string]string{
		``: `""`, `a b`: `"a b"`, `a"b`: `"a\"b"`, `a\`: `"a\\"`, `a\\"`: `"a\\\\\""`, `a\b`: `"a\b"`, `100% & <ü>`: `"100% & <ü>"`,
	} {
		if got := argvQuote(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func FuzzArgvQuote(f *testing.F) {
	f.Add(`a\\"b\`)
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		if arguments := splitArguments(argvQuote("x") + " " + argvQuote(text)); len(arguments) != 2 || arguments[1] != text {
			t.Errorf("%q reads back as %q", text, arguments)
		}
	})
}

// splitArguments reads a command line as CommandLineToArgvW documents it.
func splitArguments(line string) (arguments []string) {
	var current strings.Builder
	inside, begun, backslashes := false, false, 0
	for _, r := range line + " " {
		if r == '\\' {
			backslashes++
			begun = true
			continue
		}
		if r == '"' {
			current.WriteString(strings.Repeat(`\`, backslashes/2))
			if backslashes%2 == 1 {
				current.WriteByte('"')
			} else {
				inside, begun = !inside, true
			}
			backslashes = 0
			continue
		}
		current.WriteString(strings.Repeat(`\`, backslashes))
		backslashes = 0
		if !inside && (r == ' ' || r == '\t') {
			if begun {
				arguments = append(arguments, current.String())
			}
			current.Reset()
			begun = false
			continue
		}
		begun = true
		current.WriteRune(r)
	}
	return arguments
}

func TestServiceNames(t *testing.T) {
	for _, name := range []string{"Orders", "MSSQL$SQLEXPRESS", "a b", "ünï", strings.Repeat("x", 256)} {
		if err := checkServiceName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "a/b", `a\b`, `a"b`, "%x%", "a!b", "a\tb", strings.Repeat("x", 257)} {
		if err := checkServiceName(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}
