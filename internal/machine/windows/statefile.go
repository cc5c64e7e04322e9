package windows

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// exitExists is the exit code of our own lines for "it is there already". cmd's
// own commands end with 1 for every reason, and say which in the host's language.
const exitExists = 80

// CommandError says that a line of cmd.exe failed.
type CommandError struct {
	Doing string
	Code  uint32
	Text  string // what it printed for people, in the host's language
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", e.Doing, e.Code, e.Text)
}

// cmd runs a line and wants it to end with 0.
func (m *Machine) cmd(ctx context.Context, doing, line string) (winrm.Result, error) {
	if len(line) > maxLine {
		return winrm.Result{}, fmt.Errorf("%s: the command line would have %d characters", doing, len(line))
	}
	result, err := m.remote.Run(ctx, winrm.Request{Command: line})
	if err != nil {
		return result, fmt.Errorf("%s: %w", doing, err)
	}
	if result.ExitCode != 0 {
		return result, &CommandError{Doing: doing, Code: result.ExitCode, Text: lastLines(result.Stdout, result.Stderr)}
	}
	return result, nil
}

// lastLines is what a failed command printed, short enough for a message.
func lastLines(streams ...[]byte) string {
	const most = 512
	var text strings.Builder
	for _, stream := range streams {
		text.WriteString(strings.ToValidUTF8(string(stream), "?") + " ")
	}
	words := strings.Join(strings.Fields(text.String()), " ")
	if len(words) > most {
		words = strings.ToValidUTF8(words[len(words)-most:], "")
	}
	return words
}

// written is a line that writes a value beside its name, in a directory that is
// made if need be, and then does the rest with it; %[1]s in rest stands for the
// temporary file. The lines decide by "if errorlevel" and "if exist": && and ||
// are carried out regardless by the cmd.exe of Wine 8, and rd and echo leave the
// exit code of an earlier command as it is.
func written(path string, value any, rest string) (string, error) {
	content, err := cmdJSON(value)
	if err != nil {
		return "", err
	}
	dir := quoted(path[:strings.LastIndexByte(path, '\\')])
	temporary := quoted(path + "." + token() + ".tmp")
	// A digit before the sign of redirection would be read as a handle; JSON ends in a brace.
	return fmt.Sprintf("(if not exist %s mkdir %s)& echo %s>%s& if errorlevel 1 (del /f /q %s 2>nul& exit 1) else (if not exist %s (exit 1) else (%s))",
		dir, dir, content, temporary, temporary, temporary, fmt.Sprintf(rest, temporary)), nil
}

func token() string {
	var random [4]byte
	// crypto/rand.Read does not fail.
	_, _ = rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// replace writes a state file atomically over what is there.
func (m *Machine) replace(ctx context.Context, path string, value any) error {
	line, err := written(path, value, "move /y %[1]s "+quoted(path)+">nul& if exist %[1]s (del /f /q %[1]s& exit 1) else (exit 0)")
	if err != nil {
		return err
	}
	_, err = m.cmd(ctx, "write "+path, line)
	return err
}

// create writes a state file where there is none; it says whether it did. ren,
// unlike move, does not replace.
func (m *Machine) create(ctx context.Context, path string, value any) (bool, error) {
	name := quoted(path[strings.LastIndexByte(path, '\\')+1:])
	line, err := written(path, value, fmt.Sprintf("ren %%[1]s %s 2>nul& if exist %%[1]s (del /f /q %%[1]s& exit %d) else (exit 0)", name, exitExists))
	if err != nil {
		return false, err
	}
	result, err := m.cmd(ctx, "write "+path, line)
	if result.ExitCode == exitExists {
		return false, nil
	}
	return err == nil, err
}

// remove removes a file; one that is not there is removed already. del tells of
// no failure by its exit code, so the line looks.
func (m *Machine) remove(ctx context.Context, file string) error {
	_, err := m.cmd(ctx, "remove "+file, fmt.Sprintf("del /f /q %s& if exist %s (exit 5) else (exit 0)", file, file))
	return err
}
