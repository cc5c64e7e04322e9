package windows

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxLine is less than cmd.exe's limit of 8191, by what the host puts around a line.
const maxLine = 8000

// maxPath is less than MAX_PATH, by what a temporary name beside the path needs.
const maxPath = 200

// wqlString writes a string literal of WQL, in which the backslash escapes.
func wqlString(text string) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, control) {
		return "", fmt.Errorf("%q cannot be asked for: it holds control characters", text)
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'", nil
}

func control(r rune) bool { return r < 0x20 || r == 0x7f }

// absolute matches a path on a drive. Device and network paths have no drive.
var absolute = regexp.MustCompile(`^[A-Za-z]:\\[^\\]`)

// checkPath refuses what is no plain absolute path, and what cmd.exe would not
// take literally between quotation marks: it expands %NAME% there, and !NAME!
// where delayed expansion is the host's default.
func checkPath(path string) error {
	switch {
	case len(path) > maxPath:
		return fmt.Errorf("path %q is longer than %d bytes", path, maxPath)
	case !absolute.MatchString(path):
		return fmt.Errorf(`path %q does not begin with a drive and a backslash`, path)
	case !utf8.ValidString(path) || strings.ContainsFunc(path, control):
		return fmt.Errorf("path %q holds control characters", path)
	case strings.ContainsAny(path[2:], `"%!*?<>|/:`):
		return fmt.Errorf(`path %q holds one of the characters "%%!*?<>|/: that a Windows path cannot have here`, path)
	}
	for part := range strings.SplitSeq(path[3:], `\`) {
		if part == "" || strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
			return fmt.Errorf("path %q holds an empty part, or one that ends in a dot or a space", path)
		}
	}
	return nil
}

// cmdQuote puts a checked path or a word between quotation marks for cmd.exe and
// for the programs that it starts. It refuses what cannot be put there.
func cmdQuote(word string) (string, error) {
	if word == "" || !utf8.ValidString(word) || strings.ContainsFunc(word, control) || strings.ContainsAny(word, `"%!`) || strings.HasSuffix(word, `\`) {
		return "", fmt.Errorf("%q cannot be quoted for cmd.exe", word)
	}
	return `"` + word + `"`, nil
}

// argvQuote writes one argument of a command line that no cmd.exe sees, by the
// rules of CommandLineToArgvW: backslashes are doubled before a quotation mark.
func argvQuote(argument string) string {
	var quoted strings.Builder
	quoted.WriteByte('"')
	backslashes := 0
	for _, r := range argument {
		switch r {
		case '\\':
			backslashes++
			continue
		case '"':
			quoted.WriteString(strings.Repeat(`\`, 2*backslashes+1))
		default:
			quoted.WriteString(strings.Repeat(`\`, backslashes))
		}
		backslashes = 0
		quoted.WriteRune(r)
	}
	quoted.WriteString(strings.Repeat(`\`, 2*backslashes))
	quoted.WriteByte('"')
	return quoted.String()
}

// cmdJSON writes a value as JSON that "echo" prints unchanged: ASCII, with every
// character escaped that means something to cmd.exe (/? makes echo explain itself). What remains special
// stands between quotation marks, which are balanced because none is in a string.
func cmdJSON(value any) (string, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("write JSON: %w", err)
	}
	var line strings.Builder
	for text := string(data); text != ""; {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '\\' && text[1] == '"':
			line.WriteString(`\u0022`)
			size = 2
		case r == '\\':
			line.WriteString(text[:2])
			size = 2
		case strings.ContainsRune(`%!^|&<>()?`, r) || r == 0x7f:
			fmt.Fprintf(&line, `\u%04x`, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&line, `\u%04x\u%04x`, high, low)
		case r > 0x7e:
			fmt.Fprintf(&line, `\u%04x`, r)
		default:
			line.WriteRune(r)
		}
		text = text[size:]
	}
	return line.String(), nil
}

// errServiceName is about names that the service control manager does not allow either.
var errServiceName = errors.New("a service name has 1 to 256 characters, and no slash, backslash, quotation mark, percent sign or control character")

func checkServiceName(name string) error {
	if name == "" || utf8.RuneCountInString(name) > 256 || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, control) || strings.ContainsAny(name, `/\"%!`) {
		return fmt.Errorf("service %q: %w", name, errServiceName)
	}
	return nil
}

// either joins the conditions of a query.
func either(column string, literals []string) string {
	terms := make([]string, len(literals))
	for i, literal := range literals {
		terms[i] = column + "=" + literal
	}
	return strings.Join(terms, " OR ")
}
