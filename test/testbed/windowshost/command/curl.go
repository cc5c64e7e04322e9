package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// curlLine is the command line by which the operator runs curl.exe.
const curlLine = `if not exist "%SystemRoot%\System32\curl.exe" (exit 90) else ("%SystemRoot%\System32\curl.exe" -q -K -)`

// IsCurl tells whether a command line runs curl as the operator does.
func IsCurl(line string) bool { return line == curlLine }

// Curl is a stand-in for curl.exe.
type Curl struct {
	Drive Drive
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
}

// curlError is an exit code of curl and what it prints.
type curlError struct {
	code uint32
	text string
}

func (e *curlError) Error() string { return fmt.Sprintf("curl: (%d) %s", e.code, e.text) }

// Run reads a configuration and downloads what it asks for.
func (c *Curl) Run(stdin io.Reader, _, stderr io.Writer) uint32 {
	err := c.run(stdin)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(stderr, "%s\r\n", err) // nobody else can be told
	if failed := (*curlError)(nil); errors.As(err, &failed) {
		return failed.code
	}
	return 2
}

func (c *Curl) run(stdin io.Reader) error {
	options, err := readConfig(stdin)
	if err != nil {
		return err
	}
	for _, flag := range []string{"location", "fail", "silent", "show-error", "globoff", "create-dirs", "url", "output", "max-filesize", "max-redirs"} {
		if _, given := options[flag]; !given {
			return &curlError{2, "the operator is known to give " + flag}
		}
	}
	if options["proto"] != "=http,https" || options["proto-redir"] != "=http,https" {
		return &curlError{1, "the operator is known to limit the protocols"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), seconds(options["max-time"]))
	defer cancel()
	response, err := c.get(ctx, options)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode >= 400 {
		return &curlError{22, fmt.Sprintf("The requested URL returned error: %d", response.StatusCode)}
	}
	return c.save(response, options)
}

func seconds(text string) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil {
		return time.Hour
	}
	return time.Duration(n) * time.Second
}

func (c *Curl) get(ctx context.Context, options map[string]string) (*http.Response, error) {
	most, err := strconv.Atoi(options["max-redirs"])
	if err != nil {
		return nil, &curlError{2, "max-redirs"}
	}
	tooMany := errors.New("Maximum redirects followed") //nolint:staticcheck // curl's words
	client := &http.Client{
		Transport: &http.Transport{DialContext: c.Dial, DisableKeepAlives: true},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > most {
				return tooMany
			}
			return nil
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, options["url"], nil)
	if err != nil {
		return nil, &curlError{3, err.Error()}
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, tooMany):
		return nil, &curlError{47, err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &curlError{28, err.Error()}
	case err != nil && strings.Contains(err.Error(), "certificate"):
		return nil, &curlError{60, err.Error()}
	case err != nil:
		return nil, &curlError{7, err.Error()}
	}
	return response, nil
}

// save writes the content to the output file. It ends at the limit only if the
// length was announced, as curl before 8.4.0.
func (c *Curl) save(response *http.Response, options map[string]string) error {
	limit, err := strconv.ParseInt(options["max-filesize"], 10, 64)
	if err != nil {
		return &curlError{2, "max-filesize"}
	}
	if response.ContentLength > limit {
		return &curlError{63, "Maximum file size exceeded"}
	}
	path, err := c.Drive.Path(options["output"])
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return &curlError{23, err.Error()}
	}
	file, err := os.Create(path)
	if err != nil {
		return &curlError{23, err.Error()}
	}
	_, err = io.Copy(file, response.Body)
	if err := errors.Join(err, file.Close()); err != nil {
		return &curlError{18, err.Error()}
	}
	return nil
}

// readConfig reads the form of -K that the operator writes: a name, or a name and a quoted value.
func readConfig(stdin io.Reader) (map[string]string, error) {
	options := map[string]string{}
	for lines := bufio.NewScanner(stdin); ; {
		if !lines.Scan() {
			return options, lines.Err()
		}
		name, value, given := strings.Cut(strings.TrimSpace(lines.Text()), " = ")
		if given {
			quoted, opened := strings.CutPrefix(value, `"`)
			quoted, closed := strings.CutSuffix(quoted, `"`)
			if !opened || !closed {
				return nil, &curlError{2, "a value without quotation marks: " + name}
			}
			value = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(quoted)
		}
		options[name] = value
	}
}
