package posix

import "strings"

// quote makes one word of text for a POSIX shell. It is the only way in which
// data gets into a script. A shell has no word with a NUL byte: callers refuse
// such text before.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
