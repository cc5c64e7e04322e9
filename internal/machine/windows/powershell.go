package windows

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// The scripts, for Windows PowerShell 5.1. They never change with what they
// are used for: names and content come on standard input, as pipeline input,
// because PowerShell reads standard input itself when it is redirected.
var (
	//go:embed scripts/deliver.ps1
	deliverScript string
	//go:embed scripts/hash.ps1
	hashScript string
	//go:embed scripts/ends.ps1
	endsScript string
)

// lineBytes is how much of a file goes into one line of base64.
const lineBytes = 48 << 10

// maxAnswer bounds what a host's answer about one path can be.
const maxAnswer = 4 << 10

// encodedCommand is the command line that runs a script. It holds nothing that
// cmd.exe would touch.
func encodedCommand(script string) string {
	units := utf16.Encode([]rune(strings.ReplaceAll(script, "\r\n", "\n")))
	raw := make([]byte, 0, 2*len(units))
	for _, unit := range units {
		raw = binary.LittleEndian.AppendUint16(raw, unit)
	}
	return "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand " + base64.StdEncoding.EncodeToString(raw)
}

// scriptError says that a script did not answer as it must.
type scriptError struct {
	doing string
	code  uint32
	text  string
}

func (e *scriptError) Error() string {
	return fmt.Sprintf("%s: PowerShell ended with exit code %d and no answer: %s", e.doing, e.code, e.text)
}

// DeliveryError says why a file could not be put in place. What was there
// before is there still.
type DeliveryError struct {
	Path string
	Code string // HashMismatch, InUse, AccessDenied, NotFound, Link, or empty
	Text string
}

// codeNotFound says that the file to copy is not there.
const codeNotFound = "NotFound"

func (e *DeliveryError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("deliver %s: %s", e.Path, e.Text)
	}
	return fmt.Sprintf("deliver %s: %s: %s", e.Path, e.Code, e.Text)
}

// hashed is what the hash script says of a path.
type hashed struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Error  string `json:"error"`
	Code   string `json:"code"`
}

// asciiJSON writes one line that arrives unchanged whatever code page the host reads it with.
func asciiJSON(value any) (string, error) {
	line, err := cmdJSON(value)
	return line + "\n", err
}

// hash asks for the digests of files, many in one start of PowerShell.
func (m *Machine) hash(ctx context.Context, paths []string) (map[string]hashed, error) {
	var stdin strings.Builder
	for _, path := range paths {
		line, err := asciiJSON(map[string]string{"path": path})
		if err != nil {
			return nil, err
		}
		stdin.WriteString(line)
	}
	result, err := m.remote.Run(ctx, winrm.Request{
		Command:   encodedCommand(hashScript),
		Stdin:     strings.NewReader(stdin.String()),
		MaxStdout: len(paths) * maxAnswer,
	})
	if err != nil {
		return nil, fmt.Errorf("hash files: %w", err)
	}
	answers := map[string]hashed{}
	for line := range bytes.Lines(result.Stdout) {
		var answer hashed
		if json.Unmarshal(bytes.TrimSpace(line), &answer) == nil && answer.Path != "" {
			answers[key(answer.Path)] = answer
		}
	}
	if len(answers) == 0 {
		return nil, &scriptError{doing: "hash files", code: result.ExitCode, text: lastLines(result.Stdout, result.Stderr)}
	}
	return answers, nil
}

// delivery is the first line of what the deliver script reads.
type delivery struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"` // negative: any
	SHA256 string `json:"sha256"`
	// From is a file of the host that is copied to Path, and then removed; empty:
	// the content follows.
	From string `json:"from,omitempty"`
}

// putFile delivers a file atomically. Mode, Owner and Group do not exist here:
// a new file inherits its rights, a replaced one keeps them.
func (w *work) putFile(ctx context.Context, f machine.PutFile) error {
	aside, err := w.put(ctx, f)
	if aside {
		w.aside = append(w.aside, f.Path)
	}
	return err
}

func (m *Machine) put(ctx context.Context, f machine.PutFile) (aside bool, err error) {
	if err := checkPath(f.Path); err != nil {
		return false, err
	}
	sum := sha256.Sum256(f.Content)
	if hex.EncodeToString(sum[:]) != f.SHA256 {
		return false, fmt.Errorf("deliver %s: the content is not what its digest says", f.Path)
	}
	return m.delivered(ctx, delivery{Path: f.Path, Size: int64(len(f.Content)), SHA256: f.SHA256}, &base64Reader{content: bytes.NewReader(f.Content)})
}

// deliver puts content into a file that is no program that may be running.
func (m *Machine) deliver(ctx context.Context, d delivery, content io.Reader) error {
	_, err := m.delivered(ctx, d, content)
	return err
}

// delivered runs the deliver script. It says whether what was there before was in
// use and has been moved aside.
func (m *Machine) delivered(ctx context.Context, d delivery, content io.Reader) (aside bool, err error) {
	header, err := asciiJSON(d)
	if err != nil {
		return false, err
	}
	stdin := io.Reader(strings.NewReader(header))
	if content != nil {
		stdin = io.MultiReader(stdin, content)
	}
	defer m.cache.forget(d.Path)
	result, err := m.remote.Run(ctx, winrm.Request{Command: encodedCommand(deliverScript), Stdin: stdin})
	if err != nil {
		return false, fmt.Errorf("deliver %s: %w", d.Path, err)
	}
	return d.answered(result)
}

// answered reads the answer of the deliver script: one line of JSON.
func (d delivery) answered(result winrm.Result) (aside bool, err error) {
	var answer struct {
		OK     *bool  `json:"ok"`
		SHA256 string `json:"sha256"`
		Aside  bool   `json:"aside"`
		Error  string `json:"error"`
		Code   string `json:"code"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(result.Stdout), &answer); err != nil || answer.OK == nil {
		return false, &scriptError{doing: "deliver " + d.Path, code: result.ExitCode, text: lastLines(result.Stdout, result.Stderr)}
	}
	if !*answer.OK {
		return false, &DeliveryError{Path: d.Path, Code: answer.Code, Text: answer.Error}
	}
	if !strings.EqualFold(answer.SHA256, d.SHA256) {
		return false, &DeliveryError{Path: d.Path, Code: "HashMismatch", Text: "the host wrote another content"}
	}
	return answer.Aside, nil
}

// removeFile removes a file of a user. It is looked for first, because del
// given the name of a directory empties that.
func (m *Machine) removeFile(ctx context.Context, f machine.RemoveFile) error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	name, err := cmdQuote(f.Path)
	if err != nil {
		return err
	}
	found, err := m.stamps(ctx, []string{f.Path})
	if err != nil {
		return fmt.Errorf("remove %s: %w", f.Path, err)
	}
	if _, exists := found[key(f.Path)]; !exists {
		return nil
	}
	defer m.cache.forget(f.Path)
	return m.remove(ctx, name)
}
