package command

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// header is the first line of a delivery.
type header struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// delivered is the answer to a delivery.
type delivered struct {
	OK     bool   `json:"ok"`
	SHA256 string `json:"sha256,omitempty"`
	Size   *int64 `json:"size,omitempty"`
	Error  string `json:"error,omitempty"`
	Code   string `json:"code,omitempty"`
}

// failure is a delivery that came to nothing, with its code.
type failure struct {
	code string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func fail(code, format string, args ...any) error { return &failure{code, fmt.Errorf(format, args...)} }

func (s *Shell) deliver(stdin io.Reader, stdout io.Writer) uint32 {
	got, err := s.receive(bufio.NewReader(stdin))
	if err != nil {
		code := "Failed"
		if f := (*failure)(nil); errors.As(err, &f) {
			code = f.code
		} else if errors.Is(err, fs.ErrPermission) {
			code = "AccessDenied"
		}
		return answer(stdout, delivered{Error: err.Error(), Code: code}, 1)
	}
	return answer(stdout, delivered{OK: true, SHA256: got.SHA256, Size: &got.Size}, 0)
}

// answer writes one line of JSON.
func answer(stdout io.Writer, value any, code uint32) uint32 {
	line, err := json.Marshal(value)
	if err == nil {
		_, err = fmt.Fprintf(stdout, "%s\r\n", line)
	}
	if err != nil {
		return 1
	}
	return code
}

// receive reads a delivery and puts the file in its place.
func (s *Shell) receive(input *bufio.Reader) (header, error) {
	var want header
	line, err := input.ReadString('\n')
	if err != nil && line == "" {
		return want, fail("BadRequest", "the header is missing")
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "\ufeff")), &want); err != nil {
		return want, fail("BadRequest", "read the header: %w", err)
	}
	target, err := s.Drive.Path(want.Path)
	if err != nil {
		return want, fail("NotFound", "%w", err)
	}
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return want, fail("AccessDenied", "%s is a directory", want.Path)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return want, fail("NotFound", "make the directory of %s", want.Path)
	}
	temporary := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+"."+rand.Text()[:8]+".tmp")
	defer os.Remove(temporary) //nolint:errcheck // gone once it is moved
	got, err := write(temporary, input)
	if err != nil {
		return want, err
	}
	if got.Size != want.Size || !strings.EqualFold(got.SHA256, want.SHA256) {
		return want, fail("HashMismatch", "got %d bytes with SHA-256 %s, want %d with %s", got.Size, got.SHA256, want.Size, want.SHA256)
	}
	if err := s.makeRoom(want.Path, target, got.SHA256); err != nil {
		return want, err
	}
	return got, os.Rename(temporary, target)
}

// write decodes base64 lines into a file.
func write(path string, input *bufio.Reader) (header, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return header{}, err
	}
	hash := sha256.New()
	size, err := decode(io.MultiWriter(file, hash), input)
	if err = errors.Join(err, file.Close()); err != nil {
		return header{}, err
	}
	return header{Size: size, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

func decode(to io.Writer, input *bufio.Reader) (int64, error) {
	var size int64
	for {
		line, end := input.ReadString('\n')
		data, err := base64.StdEncoding.DecodeString(strings.TrimRight(line, "\r\n"))
		if err != nil {
			return 0, fail("BadRequest", "read the content: %w", err)
		}
		if _, err := to.Write(data); err != nil {
			return 0, err
		}
		size += int64(len(data))
		if end != nil {
			return size, nil
		}
	}
}

// makeRoom moves the program of a running process out of the way: Windows lets it be
// renamed, not replaced.
func (s *Shell) makeRoom(windows, target, hash string) error {
	inUse, err := s.Running(windows)
	if err != nil || !inUse {
		return err
	}
	if err := os.Rename(target, target+".old-"+hash[:8]); err != nil {
		return fail("InUse", "move the running %s aside", windows)
	}
	return nil
}
