package posix

import (
	"embed"
	"fmt"
	"strings"
)

// The scripts are kept as files, so that shells and people can read them.
//
//go:embed shell/*.sh
var shellFiles embed.FS

var fragments = loadFragments()

// loadFragments reads the scripts without their comments and indentation: hosts
// need neither, and some shells read a script byte by byte.
func loadFragments() map[string]string {
	entries, err := shellFiles.ReadDir("shell")
	if err != nil {
		panic(err) // The files are part of the program.
	}
	loaded := make(map[string]string, len(entries))
	for _, entry := range entries {
		content, err := shellFiles.ReadFile("shell/" + entry.Name())
		if err != nil {
			panic(err)
		}
		loaded[strings.TrimSuffix(entry.Name(), ".sh")] = compact(string(content))
	}
	return loaded
}

func compact(script string) string {
	var kept strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimLeft(line, "\t")
		if !strings.HasPrefix(line, "#") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// script is a script that is being written.
type script struct{ strings.Builder }

// use appends the named fragments.
func (s *script) use(names ...string) {
	for _, name := range names {
		fragment, known := fragments[name]
		if !known {
			panic("posix: no such script: " + name)
		}
		s.WriteString(fragment)
	}
}

// line appends a line; its arguments are words of the script's own, or quoted.
func (s *script) line(format string, arguments ...any) {
	// A strings.Builder never fails.
	_, _ = fmt.Fprintf(s, format+"\n", arguments...)
}
