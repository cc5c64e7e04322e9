package command

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// folder is a drive whose root is a directory.
type folder string

func (f folder) Path(windows string) (string, error) {
	rest, ok := strings.CutPrefix(windows, `C:\`)
	if !ok {
		return "", errors.New("not a path on the drive C")
	}
	return filepath.Join(string(f), strings.ReplaceAll(rest, `\`, "/")), nil
}

func commandLine(script string) string {
	var data []byte
	for _, unit := range utf16.Encode([]rune(script)) {
		data = binary.LittleEndian.AppendUint16(data, unit)
	}
	return "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand " + base64.StdEncoding.EncodeToString(data)
}

func run(t *testing.T, s *Shell, script, input string) (stdout, stderr string, code uint32) {
	t.Helper()
	var out, err strings.Builder
	code = s.Run(commandLine(script), strings.NewReader(input), &out, &err)
	return out.String(), err.String(), code
}

func sum(content string) string {
	hash := sha256.Sum256([]byte(content))
	return hex.EncodeToString(hash[:])
}

func TestDeliver(t *testing.T) {
	root := t.TempDir()
	inUse := false
	shell := &Shell{Drive: folder(root), Running: func(string) (bool, error) { return inUse, nil }}
	send := func(path, content, hash string) (string, uint32) {
		first, second := content[:len(content)/2], content[len(content)/2:]
		input := fmt.Sprintf("{\"path\": %q, \"size\": %d, \"sha256\": %q}\r\n%s\n%s", path, len(content), hash,
			base64.StdEncoding.EncodeToString([]byte(first)), base64.StdEncoding.EncodeToString([]byte(second)))
		out, _, code := run(t, shell, "# isthmus:deliver v2\nanything", input)
		return out, code
	}
	file := filepath.Join(root, "Orders", "app.json")
	if out, code := send(`C:\Orders\app.json`, "first", sum("first")); code != 0 || out != `{"ok":true,"sha256":"`+sum("first")+`","size":5}`+"\r\n" {
		t.Errorf("delivery: %d %s", code, out)
	}
	if out, code := send(`C:\Orders\app.json`, "second", sum("first")); code != 1 || !strings.Contains(out, `"code":"HashMismatch"`) {
		t.Errorf("a wrong hash: %d %s", code, out)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "first" {
		t.Errorf("after a wrong hash: %q, %v", content, err)
	}
	inUse = true
	if out, code := send(`C:\Orders\app.json`, "third", sum("third")); code != 0 {
		t.Errorf("a file in use: %d %s", code, out)
	}
	if old, err := os.ReadFile(file + ".old-" + sum("third")[:8]); err != nil || string(old) != "first" {
		t.Errorf("the old file: %q, %v", old, err)
	}
	if out, code := send(`D:\x`, "x", sum("x")); code != 1 || !strings.Contains(out, `"code":"NotFound"`) {
		t.Errorf("another drive: %d %s", code, out)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 2 {
		t.Errorf("files left: %v, %v", entries, err)
	}
}

func TestHash(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code := run(t, &Shell{Drive: folder(root)}, "# isthmus:hash v1\r\n", "{\"path\":\"C:\\\\a\"}\r\n{\"path\":\"C:\\\\b\"}\n{\"path\":\"D:\\\\c\"}\n")
	want := `{"path":"C:\\a","exists":true,"sha256":"` + sum("abc") + `","size":3}` + "\r\n" +
		`{"path":"C:\\b","exists":false}` + "\r\n" + `{"path":"D:\\c","error":"not a path on the drive C"}` + "\r\n"
	if code != 0 || out != want {
		t.Errorf("%d %s, want %s", code, out, want)
	}
}

func TestOtherScriptsAreRefused(t *testing.T) {
	shell := &Shell{Drive: folder(t.TempDir())}
	for _, script := range []string{"Get-Service", "", "# isthmus:deliver v1\n", " # isthmus:hash v1"} {
		if out, err, code := run(t, shell, script, ""); code != 1 || out != "" || err == "" {
			t.Errorf("%q: %d, %q, %q", script, code, out, err)
		}
	}
	var out, err strings.Builder
	if code := shell.Run("powershell.exe -Command Get-Service", strings.NewReader(""), &out, &err); code != 1 || err.Len() == 0 {
		t.Errorf("-Command: %d, %q", code, err.String())
	}
}

func TestIsPowerShell(t *testing.T) {
	for line, want := range map[string]bool{
		"powershell -x": true, "PowerShell.EXE": true, `"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe" -x`: true,
		"cmd /c powershell": false, "powershell_ise.exe": false, "": false,
	} {
		if IsPowerShell(line) != want {
			t.Errorf("IsPowerShell(%q) is not %v", line, want)
		}
	}
}

func TestDeliverCopiesAFileOfTheMachine(t *testing.T) {
	root := t.TempDir()
	shell := &Shell{Drive: folder(root), Running: func(string) (bool, error) { return false, nil }}
	source := filepath.Join(root, "staged")
	send := func(hash string, size int) (string, uint32) {
		out, _, code := run(t, shell, "# isthmus:deliver v2", fmt.Sprintf(`{"path":"C:\\Orders\\a.bin","from":"C:\\staged","size":%d,"sha256":%q}`, size, hash))
		return out, code
	}
	if out, code := send(sum("staged"), 6); code != 1 || !strings.Contains(out, `"code":"NotFound"`) {
		t.Errorf("a file that is not there: %d %s", code, out)
	}
	if err := os.WriteFile(source, []byte("staged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := send(sum("other"), -1); code != 1 || !strings.Contains(out, `"code":"HashMismatch"`) {
		t.Errorf("a wrong hash: %d %s", code, out)
	}
	if out, code := send(sum("staged"), -1); code != 0 || !strings.Contains(out, `"size":6`) {
		t.Errorf("%d %s", code, out)
	}
	if content, err := os.ReadFile(filepath.Join(root, "Orders", "a.bin")); err != nil || string(content) != "staged" {
		t.Errorf("%q, %v", content, err)
	}
	if _, err := os.Stat(source); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the source: %v", err)
	}
	shell.Full = true
	if out, code := send(sum("staged"), -1); code != 1 || !strings.Contains(out, `"code":"DiskFull"`) {
		t.Errorf("a full disk: %d %s", code, out)
	}
}

func TestEnds(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), []byte("beginning, middle and end"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := &Shell{Drive: folder(root)}
	for input, want := range map[string]string{
		`{"path":"C:\\a","each":9}`: `{"ok":true,"head":"` + base64.StdEncoding.EncodeToString([]byte("beginning")) + `","tail":"` + base64.StdEncoding.EncodeToString([]byte("e and end")) + `"}`,
		`{"path":"C:\\b","each":9}`: `{"ok":false,`, `nonsense`: `{"ok":false,`,
	} {
		if out, _, code := run(t, shell, "# isthmus:ends v1", input+"\n"); code != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: %d %s", input, code, out)
		}
	}
}

func TestCurl(t *testing.T) {
	root := t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			_, _ = io.WriteString(w, "content")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	curl := &Curl{Drive: folder(root), Dial: (&net.Dialer{}).DialContext}
	for path, want := range map[string]uint32{"/file": 0, "/gone": 22, "/loop": 47} {
		var stderr strings.Builder
		config := fmt.Sprintf("url = \"%s%s\"\noutput = \"C:\\\\blobs\\\\x\"\nproto = \"=http,https\"\nproto-redir = \"=http,https\"\nmax-filesize = \"100\"\nmax-redirs = \"5\"\n"+
			"location\nfail\nsilent\nshow-error\ngloboff\ncreate-dirs\n", server.URL, path)
		if code := curl.Run(strings.NewReader(config), io.Discard, &stderr); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, stderr.String())
		}
	}
	if content, err := os.ReadFile(filepath.Join(root, "blobs", "x")); err != nil || string(content) != "content" {
		t.Errorf("%q, %v", content, err)
	}
	if code := curl.Run(strings.NewReader("url = \"x\"\n"), io.Discard, io.Discard); code == 0 {
		t.Error("a configuration that the operator never writes was taken")
	}
}
