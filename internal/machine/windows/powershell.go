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

// The two scripts, for Windows PowerShell 5.1. They never change with what they
// are used for: names and content come on standard input, as pipeline input,
// because PowerShell reads standard input itself when it is redirected.
var (
	//go:embed scripts/deliver.ps1
	deliverScript string
	//go:embed scripts/hash.ps1
	hashScript string
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
	Code string // HashMismatch, InUse, AccessDenied, NotFound, or empty
	Text string
}

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

// putFile delivers a file atomically. Mode, Owner and Group do not exist here:
// a new file inherits its rights, a replaced one keeps them.
func (m *Machine) putFile(ctx context.Context, f machine.PutFile) error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	sum := sha256.Sum256(f.Content)
	if hex.EncodeToString(sum[:]) != f.SHA256 {
		return fmt.Errorf("deliver %s: the content is not what its digest says", f.Path)
	}
	header, err := asciiJSON(struct {
		Path   string `json:"path"`
		Size   int    `json:"size"`
		SHA256 string `json:"sha256"`
	}{f.Path, len(f.Content), f.SHA256})
	if err != nil {
		return err
	}
	defer m.cache.forget(f.Path)
	result, err := m.remote.Run(ctx, winrm.Request{
		Command: encodedCommand(deliverScript),
		Stdin:   io.MultiReader(strings.NewReader(header), &base64Lines{rest: f.Content}),
	})
	if err != nil {
		return fmt.Errorf("deliver %s: %w", f.Path, err)
	}
	return delivered(f, result)
}

// delivered reads the answer of the deliver script: one line of JSON.
func delivered(f machine.PutFile, result winrm.Result) error {
	var answer struct {
		OK     *bool  `json:"ok"`
		SHA256 string `json:"sha256"`
		Error  string `json:"error"`
		Code   string `json:"code"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(result.Stdout), &answer); err != nil || answer.OK == nil {
		return &scriptError{doing: "deliver " + f.Path, code: result.ExitCode, text: lastLines(result.Stdout, result.Stderr)}
	}
	if !*answer.OK {
		return &DeliveryError{Path: f.Path, Code: answer.Code, Text: answer.Error}
	}
	if !strings.EqualFold(answer.SHA256, f.SHA256) {
		return &DeliveryError{Path: f.Path, Code: "HashMismatch", Text: "the host wrote another content"}
	}
	return nil
}

// base64Lines reads content as lines that are valid base64 each by itself.
type base64Lines struct {
	rest    []byte
	pending []byte
}

func (b *base64Lines) Read(p []byte) (int, error) {
	if len(b.pending) == 0 {
		if len(b.rest) == 0 {
			return 0, io.EOF
		}
		n := min(lineBytes, len(b.rest))
		b.pending = append(base64.StdEncoding.AppendEncode(b.pending[:0], b.rest[:n]), '\n')
		b.rest = b.rest[n:]
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
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
