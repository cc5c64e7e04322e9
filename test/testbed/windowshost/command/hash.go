package command

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// hashed is the answer for one file.
type hashed struct {
	Path   string `json:"path"`
	Exists *bool  `json:"exists,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Size   *int64 `json:"size,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (s *Shell) hash(stdin io.Reader, stdout io.Writer) uint32 {
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		line := strings.TrimPrefix(strings.TrimSpace(lines.Text()), "\ufeff")
		if line == "" {
			continue
		}
		var asked struct {
			Path string `json:"path"`
		}
		if err := json.Unmarshal([]byte(line), &asked); err != nil {
			return answer(stdout, hashed{Error: "read a line: " + err.Error()}, 1)
		}
		if answer(stdout, s.hashFile(asked.Path), 0) != 0 {
			return 1
		}
	}
	return 0
}

func (s *Shell) hashFile(windows string) hashed {
	var yes, no = true, false
	path, err := s.Drive.Path(windows)
	if err != nil {
		return hashed{Path: windows, Error: err.Error()}
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return hashed{Path: windows, Exists: &no}
	}
	if err != nil {
		return hashed{Path: windows, Error: "open the file"}
	}
	defer file.Close() //nolint:errcheck // only read
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	if err != nil {
		return hashed{Path: windows, Error: "read the file"}
	}
	return hashed{Path: windows, Exists: &yes, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: &size}
}
