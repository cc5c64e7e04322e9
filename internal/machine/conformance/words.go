package conformance

import (
	"fmt"
	"strings"
)

// words are the few phrases of a shell that the tests need.
type words interface {
	join(parts ...string) string
	// lines makes one script of phrases.
	lines(phrases ...string) string
	// phrase says one thing, in the words of this shell.
	phrase(verb verb, arguments ...any) string
	// appended is what the verb appendLine has written after a number of times.
	appended(times int) string
}

// verb is something that a script does.
type verb string

const (
	appendLine verb = "append"   // path: a line "once"
	exit       verb = "exit"     // code
	sleep      verb = "sleep"    // seconds
	say        verb = "say"      // word of letters, digits and +/=-
	count      verb = "count"    // number: so many lines, "line 1" and so on
	variable   verb = "variable" // name: its value
	list       verb = "list"     // directory: the names in it
	read       verb = "read"     // standard input to its end; there must be none
)

func wordsOf(system System) words {
	if system == Windows {
		return batch{}
	}
	return shell{}
}

type shell struct{}

func (shell) join(parts ...string) string       { return strings.Join(parts, "/") }
func (shell) lines(phrases ...string) string    { return strings.Join(phrases, "\n") + "\n" }
func (shell) appended(times int) string         { return strings.Repeat("once\n", times) }
func (shell) phrase(v verb, args ...any) string { return fmt.Sprintf(inShell[v], args...) }

var inShell = map[verb]string{
	appendLine: `echo once >>'%s'`,
	exit:       `exit %d`,
	sleep:      `sleep %d`,
	say:        `echo '%s'`,
	count:      `i=0; while [ $i -lt %d ]; do i=$((i+1)); echo "line $i"; done`,
	variable:   `printf '%%s\n' "$%s"`,
	list:       `ls -A '%s'`,
	read:       `cat`,
}

type batch struct{}

func (batch) join(parts ...string) string       { return strings.Join(parts, `\`) }
func (batch) appended(times int) string         { return strings.Repeat("once\r\n", times) }
func (batch) phrase(v verb, args ...any) string { return fmt.Sprintf(inBatch[v], args...) }

func (batch) lines(phrases ...string) string {
	return "@echo off\r\n" + strings.Join(phrases, "\r\n") + "\r\n"
}

var inBatch = map[verb]string{
	appendLine: `echo once>>"%s"`,
	exit:       `exit %d`,
	sleep:      `for /l %%%%i in (1,1,%d) do ping -n 2 127.0.0.1 >nul`,
	say:        `echo %s`,
	count:      `for /l %%%%i in (1,1,%d) do echo line %%%%i`,
	variable:   `echo %%%s%%`,
	list:       `dir /b /a "%s"`,
	read:       `more`,
}
