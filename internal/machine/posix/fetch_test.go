package posix

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// source is an HTTP server that answers well on /good, and badly elsewhere.
func source(t *testing.T, content string, sent *atomic.Int64) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(content)) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			n, err := w.Write(make([]byte, 64<<10))
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/drop", func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = connection.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"))
			_ = connection.Close()
		}
	})
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// TestFetchFile is run where proxies are set that lead nowhere.
func TestFetchFile(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		for _, tool := range []string{"curl", "wget"} {
			if tool == "wget" {
				hide(t, h, "curl")
			}
			t.Run(tool, func(t *testing.T) { testFetch(t, m, tool) })
		}
	})
}

// hide takes programs away, whatever directory they are in.
func hide(t *testing.T, h *localHost, names ...string) {
	t.Helper()
	needRoot(t)
	h.hidden = nil
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			path, err = filepath.EvalSymlinks(path)
			require.NoError(t, err)
			h.hidden = append(h.hidden, path)
		}
	}
}

func testFetch(t *testing.T, m *Machine, tool string) {
	content := strings.Repeat("artifact\n", 1000)
	var sent atomic.Int64
	server := source(t, content, &sent)
	dir := t.TempDir()
	file := dir + "/artifact"
	fetch := func(path string) machine.FetchFile {
		return machine.FetchFile{Path: file, URL: server.URL + path, SHA256: digestOf(content), MaxSize: int64(len(content)), Mode: 0o755}
	}
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	bad := func(id string, step machine.FetchFile, says string) {
		t.Helper()
		job := testJob(tool+"-"+id, step)
		state := await(t, m, job.ID, start(t, m, job))
		require.Equal(t, machine.JobFailed, state.Phase, id)
		require.Contains(t, state.Message, says, id)
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, "old", string(got), id)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, id)
	}
	wrong := fetch("/good")
	wrong.SHA256 = digestOf("other")
	bad("digest", wrong, "does not have the SHA-256")
	small := fetch("/good")
	small.MaxSize--
	bad("size", small, "is larger than 8999 bytes")
	bad("endless", fetch("/endless"), "is larger than 9000 bytes")
	require.Less(t, sent.Load(), int64(64<<20), "it is ended while it comes")
	bad("none", fetch("/none"), "failed")
	bad("file", fetch("/file"), "failed")
	bad("loop", fetch("/loop"), "failed")
	bad("drop", fetch("/drop"), "failed")
	bad("refused", machine.FetchFile{Path: file, URL: "http://127.0.0.1:1/", SHA256: digestOf(""), MaxSize: 1}, "failed")
	succeed(t, m, testJob(tool+"-good", fetch("/moved")))
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, content, string(got))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
}

// TestFetchVerifiesCertificates: of a server that nobody vouches for nothing is taken.
func TestFetchVerifiesCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }))
	t.Cleanup(server.Close)
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		step := machine.FetchFile{Path: t.TempDir() + "/f", URL: server.URL, SHA256: digestOf("x"), MaxSize: 10}
		require.Equal(t, machine.JobFailed, finish(t, m, testJob("curl", step)).Phase)
		hide(t, h, "curl")
		state := finish(t, m, testJob("wget", step))
		require.Equal(t, machine.JobFailed, state.Phase)
		if h.name == "busybox" {
			require.Contains(t, state.Message, "verifies no certificates: install curl")
		}
		require.NoFileExists(t, step.Path)
		if h.name != "busybox" {
			hide(t, h, "curl", "wget")
			state = finish(t, m, testJob("nothing", step))
			require.Contains(t, state.Message, "neither curl nor wget to download with: install curl")
		}
	})
}

func TestURLs(t *testing.T) {
	for _, bad := range []string{
		"", "-o/etc/passwd", "file:///etc/passwd", "ftp://x/y", "http:///x", "http://u:p@x/", "http://x/a b", "http://x/\n", "http://-x/",
		"http://x/{a,b}", "http://x/`id`", "gopher://x", "//x/y", "http://x/ä",
	} {
		_, err := validURL(bad)
		require.Error(t, err, "%q", bad)
		_, err = New(nil, Options{}).compileJob(testJob("x", machine.FetchFile{Path: "/f", URL: bad, SHA256: digestOf(""), MaxSize: 1}))
		require.Error(t, err, "%q", bad)
	}
	for _, good := range []string{"http://x", "https://x.example:8443/a/b.tar.gz?sig=a%20b&c=$(id)'", "http://[::1]:8080/a"} {
		_, err := validURL(good)
		require.NoError(t, err, "%q", good)
	}
}
