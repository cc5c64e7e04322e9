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
	"syscall"
)

// header is the first line of a delivery.
type header struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"` // negative: any
	SHA256 string `json:"sha256"`
	// From is a file of the machine that is copied, and then removed; without it the content follows.
	From string `json:"from"`
	// aside says that what was there was in use and has been moved out of the way.
	aside bool
}

// delivered is the answer to a delivery.
type delivered struct {
	OK     bool   `json:"ok"`
	SHA256 string `json:"sha256,omitempty"`
	Size   *int64 `json:"size,omitempty"`
	Aside  bool   `json:"aside,omitempty"`
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
		} else if errors.Is(err, syscall.ENOSPC) {
			code = "DiskFull"
		}
		return answer(stdout, delivered{Error: err.Error(), Code: code}, 1)
	}
	return answer(stdout, delivered{OK: true, SHA256: got.SHA256, Size: &got.Size, Aside: got.aside}, 0)
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
	target, err := s.target(want.Path)
	if err != nil {
		return want, err
	}
	if s.Full {
		return want, &failure{"DiskFull", syscall.ENOSPC}
	}
	content, done, err := s.source(want, input)
	if err != nil {
		return want, err
	}
	defer done()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return want, fail("NotFound", "make the directory of %s", want.Path)
	}
	temporary := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+"."+rand.Text()[:8]+".tmp")
	defer os.Remove(temporary) //nolint:errcheck // gone once it is moved
	got, err := write(temporary, content)
	if err != nil {
		return want, err
	}
	if want.Size >= 0 && got.Size != want.Size || !strings.EqualFold(got.SHA256, want.SHA256) {
		return want, fail("HashMismatch", "got %d bytes with SHA-256 %s, want %d with %s", got.Size, got.SHA256, want.Size, want.SHA256)
	}
	if got.aside, err = s.makeRoom(want.Path, target, got.SHA256); err != nil {
		return want, err
	}
	if err := os.Rename(temporary, target); err != nil {
		return want, err
	}
	return got, s.take(want.From)
}

// target is where a file is to be. Neither it nor a directory on the way may be a link.
func (s *Shell) target(windows string) (string, error) {
	target, err := s.Drive.Path(windows)
	if errors.Is(err, ErrLink) {
		return "", fail("Link", "%w", err)
	}
	if err != nil {
		return "", fail("NotFound", "%w", err)
	}
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return "", fail("AccessDenied", "%s is a directory", windows)
	}
	old, err := filepath.Glob(target + ".old-????????")
	for _, path := range old {
		if used, err := s.Running(windows + path[len(target):]); err == nil && !used {
			_ = os.Remove(path) // the next delivery tries again
		}
	}
	return target, err
}

// source is the content of a delivery: what follows, or a file of the machine.
func (s *Shell) source(want header, input *bufio.Reader) (content io.Reader, done func(), err error) {
	if want.From == "" {
		return &lineReader{input: input}, func() {}, nil
	}
	path, err := s.Drive.Path(want.From)
	if err != nil {
		return nil, nil, fail("NotFound", "%w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fail("NotFound", "open %s", want.From)
	}
	return file, func() { _ = file.Close() }, nil // only read
}

// take removes the file that was copied.
func (s *Shell) take(windows string) error {
	if windows == "" {
		return nil
	}
	path, err := s.Drive.Path(windows)
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// write copies content into a file.
func write(path string, content io.Reader) (header, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return header{}, err
	}
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, hash), content)
	if err = errors.Join(err, file.Close()); err != nil {
		return header{}, err
	}
	return header{Size: size, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// lineReader decodes lines that are base64 each by itself.
type lineReader struct {
	input *bufio.Reader
	data  []byte
	ended bool
}

func (l *lineReader) Read(p []byte) (int, error) {
	for len(l.data) == 0 {
		if l.ended {
			return 0, io.EOF
		}
		line, end := l.input.ReadString('\n')
		data, err := base64.StdEncoding.DecodeString(strings.TrimRight(line, "\r\n"))
		if err != nil {
			return 0, fail("BadRequest", "read the content: %w", err)
		}
		l.data, l.ended = data, end != nil
	}
	n := copy(p, l.data)
	l.data = l.data[n:]
	return n, nil
}

// makeRoom moves the program of a running process out of the way: Windows lets it be
// renamed, not replaced.
func (s *Shell) makeRoom(windows, target, hash string) (aside bool, err error) {
	inUse, err := s.Running(windows)
	if err != nil || !inUse {
		return false, err
	}
	if err := os.Rename(target, target+".old-"+hash[:8]); err != nil {
		return false, fail("InUse", "move the running %s aside", windows)
	}
	return true, nil
}
