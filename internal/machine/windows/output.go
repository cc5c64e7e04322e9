package windows

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/redaction"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// maxOutput is how much of what a script printed is read back: all of it, or
// half from its beginning and half from its end.
const maxOutput = 64 << 10

// ends is what the ends script says of a file.
type ends struct {
	OK    bool   `json:"ok"`
	Head  []byte `json:"head"`
	Tail  []byte `json:"tail"`
	Error string `json:"error"`
}

// readOutput reads what a script printed, without secrets. Where the middle is
// left out, so is what stands beside the gap and may be half a secret.
func (m *Machine) readOutput(ctx context.Context, path string, size int64, secrets []machine.Secret) (string, error) {
	if size <= maxOutput {
		result, err := m.remote.Run(ctx, winrm.Request{Command: "type " + quoted(path) + " 2>nul", MaxStdout: maxOutput})
		if err != nil {
			return "", err
		}
		return shown(result.Stdout, secrets), nil
	}
	both, err := m.readEnds(ctx, path)
	if err != nil {
		return "", err
	}
	margin := longest(secrets)
	return shown(cutEnd(both.Head, margin), secrets) + "\n[...]\n" + shown(cutStart(both.Tail, margin), secrets), nil
}

// readEnds asks PowerShell for the beginning and the end of a large file, which
// no command of cmd.exe gives.
func (m *Machine) readEnds(ctx context.Context, path string) (ends, error) {
	line, err := asciiJSON(struct {
		Path string `json:"path"`
		Each int    `json:"each"`
	}{path, maxOutput / 2})
	if err != nil {
		return ends{}, err
	}
	result, err := m.remote.Run(ctx, winrm.Request{Command: encodedCommand(endsScript), Stdin: strings.NewReader(line), MaxStdout: 2 * maxOutput})
	if err != nil {
		return ends{}, err
	}
	var both ends
	if err := json.Unmarshal(bytes.TrimSpace(result.Stdout), &both); err != nil {
		return ends{}, &scriptError{doing: "read " + path, code: result.ExitCode, text: lastLines(result.Stderr)}
	}
	if !both.OK {
		return ends{}, fmt.Errorf("read %s: %s", path, both.Error)
	}
	return both, nil
}

// shown is what a script printed, as it may be shown: without secrets, neither as
// they were printed nor as what is no text among them made them look.
func shown(data []byte, secrets []machine.Secret) string {
	r := redactor(secrets)
	return r.String(asText(r.Bytes(data)))
}

func asText(data []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(strings.ReplaceAll(string(data), "\r\n", "\n"), "?"), "\x00", "")
}

// cutEnd leaves out what may be the beginning of a secret.
func cutEnd(data []byte, margin int) []byte {
	data = data[:max(0, len(data)-margin)]
	return data[:bytes.LastIndexByte(data, '\n')+1]
}

// cutStart leaves out what may be the end of a secret.
func cutStart(data []byte, margin int) []byte {
	data = data[min(margin, len(data)):]
	return data[min(bytes.IndexByte(data, '\n')+1, len(data)):]
}

// longest is how long a secret may be in any of its forms.
func longest(secrets []machine.Secret) int {
	most := 0
	for _, secret := range secrets {
		for _, form := range redaction.Forms(secret) {
			most = max(most, len(form))
		}
	}
	return min(most, maxOutput/4)
}

// hidden are the secrets of a job and the values that a script of it was given.
func (w *work) hidden(step machine.RunScript) []machine.Secret {
	secrets := append([]machine.Secret(nil), w.job.Secrets...)
	for _, v := range step.Environment {
		secrets = append(secrets, v.Value)
	}
	return secrets
}

// ending is the end of a text, from the beginning of a line if there is room for one.
func ending(text string, most int) string {
	text = strings.TrimSpace(text)
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	if _, after, found := strings.Cut(text, "\n"); found && after != "" {
		text = after
	}
	return strings.ToValidUTF8(text, "")
}
