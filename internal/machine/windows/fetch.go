package windows

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

const (
	// exitNoCurl is the exit code of our own line where there is no curl.exe.
	exitNoCurl = 90
	// curlLine runs the curl.exe of Windows, and not what else has its name. All that it is
	// told comes on standard input, where no cmd.exe reads a URL.
	curlLine = `if not exist "%SystemRoot%\System32\curl.exe" (exit 90) else ("%SystemRoot%\System32\curl.exe" -q -K -)`
	// maxRedirects is how often a server may name another URL.
	maxRedirects = 5
)

// curlCodes explains exit codes of curl (its manual, EXIT CODES); of the others, what it prints says enough.
var curlCodes = map[uint32]string{
	6:  "the server's name is not known on the host",
	7:  "the host cannot connect to the server",
	22: "the server refused it",
	23: "it cannot be written: is the disk full?",
	28: "the job's time was over",
	35: "no TLS connection: do the host and the server share a version, and does the host trust the certificate?",
	47: "it was redirected too often",
	60: "the host does not trust the server's certificate",
	63: "it is larger than the limit",
}

// FetchError says why a host could not download a file. What was there before is there still.
type FetchError struct {
	URL  string
	Code uint32
	Text string
}

func (e *FetchError) Error() string {
	if e.Code == exitNoCurl {
		return "the host has no curl.exe, which comes with Windows 10 1803 and Windows Server 2019: set via: Operator, and the operator downloads the file and sends it there"
	}
	reason := curlCodes[e.Code]
	if reason == "" {
		reason = "curl.exe ended with exit code " + fmt.Sprint(e.Code)
	}
	return strings.TrimSuffix(fmt.Sprintf("download %s: %s: %s", e.URL, reason, e.Text), ": ")
}

// fetchFile has the host download a file into the state directory, and puts it in
// its place when it has its digest. A file that is there already is not downloaded.
func (w *work) fetchFile(ctx context.Context, f machine.FetchFile) error {
	if err := checkFetch(f); err != nil {
		return err
	}
	done, err := w.holds(ctx, f.Path, f.SHA256)
	if err != nil || done {
		return err
	}
	download := w.state.blob("fetch-" + token())
	if err := w.download(ctx, f, download); err != nil {
		return errors.Join(err, w.remove(context.WithoutCancel(ctx), quoted(download)))
	}
	if err := w.fence(ctx); err != nil {
		return err
	}
	err = w.place(ctx, delivery{Path: f.Path, Size: -1, SHA256: f.SHA256, From: download})
	if err != nil && !broken(err) {
		err = errors.Join(err, w.remove(ctx, quoted(download)))
	}
	return err
}

func checkFetch(f machine.FetchFile) error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	parsed, err := url.Parse(f.URL)
	switch {
	case err != nil || !utf8.ValidString(f.URL) || strings.ContainsFunc(f.URL, func(r rune) bool { return control(r) || r == ' ' }):
		return fmt.Errorf("fetch %s: the URL cannot be read", f.Path)
	case parsed.Scheme != "http" && parsed.Scheme != "https", parsed.Host == "", parsed.User != nil:
		return fmt.Errorf("fetch %s: want an http or https URL without user information", f.Path)
	case !hexDigest.MatchString(f.SHA256):
		return fmt.Errorf("fetch %s: digest %q", f.Path, f.SHA256)
	case f.MaxSize <= 0:
		return fmt.Errorf("fetch %s: a limit of the size is required", f.Path)
	}
	return nil
}

// download runs curl.exe. Without a Content-Length, curl before 8.4.0 does not
// limit the size while it downloads; what it has written is measured afterwards.
func (w *work) download(ctx context.Context, f machine.FetchFile, to string) error {
	result, err := w.remote.Run(ctx, winrm.Request{Command: curlLine, Stdin: strings.NewReader(curlConfig(ctx, f, to))})
	if err != nil {
		return fmt.Errorf("download %s: %w", f.URL, err)
	}
	if result.ExitCode != 0 {
		return &FetchError{URL: f.URL, Code: result.ExitCode, Text: lastLines(result.Stderr)}
	}
	found, err := w.stamps(ctx, []string{to})
	if err != nil {
		return fmt.Errorf("download %s: %w", f.URL, err)
	}
	if size := found[key(to)].size; size > f.MaxSize {
		return fmt.Errorf("download %s: it has %d bytes, and the limit is %d", f.URL, size, f.MaxSize)
	}
	return nil
}

// curlConfig is what curl reads with -K: a name and a quoted value a line.
func curlConfig(ctx context.Context, f machine.FetchFile, to string) string {
	var config strings.Builder
	set := func(name, value string) {
		fmt.Fprintf(&config, "%s = \"%s\"\n", name, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value))
	}
	set("url", f.URL)
	set("output", to)
	set("proto", "=http,https")
	set("proto-redir", "=http,https")
	set("max-filesize", fmt.Sprint(f.MaxSize))
	set("max-redirs", fmt.Sprint(maxRedirects))
	set("connect-timeout", "30")
	if deadline, limited := ctx.Deadline(); limited {
		set("max-time", fmt.Sprint(max(1, int64(time.Until(deadline)/time.Second))))
	}
	for _, flag := range []string{"location", "fail", "silent", "show-error", "globoff", "create-dirs"} {
		config.WriteString(flag + "\n")
	}
	return config.String()
}
