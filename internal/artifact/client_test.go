package artifact_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/artifact"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

const text = "content of some size"

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// server answers in all the ways that matter.
func server(t *testing.T, start func(http.Handler) *httptest.Server) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" || r.Header.Get("Authorization") != "" {
			http.Error(w, "unwanted headers", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, text)
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, _ *http.Request) {
		for _, r := range text {
			_, _ = io.WriteString(w, string(r))
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, text)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	mux.HandleFunc("/hops/", func(w http.ResponseWriter, r *http.Request) {
		hops := len(strings.TrimPrefix(r.URL.Path, "/hops/"))
		if hops == 0 {
			http.Redirect(w, r, "/file?signature=hunter2", http.StatusFound)
			return
		}
		http.Redirect(w, r, r.URL.Path[:len(r.URL.Path)-1], http.StatusFound)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("url"), http.StatusFound)
	})
	mux.HandleFunc("/unreadable", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://files.example/%zz?signature=hunter2")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/mute", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := start(mux)
	t.Cleanup(s.Close)
	return s
}

func client(roots *x509.CertPool) *artifact.Client {
	return artifact.New(artifact.Options{Dialer: &net.Dialer{}, Roots: roots, Headers: time.Second, Idle: time.Second})
}

func read(c *artifact.Client, url, sha string, limit int64) (string, error) {
	body, err := c.Open(context.Background(), artifact.Request{URL: url, SHA256: sha, MaxSize: limit})
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	content, err := io.ReadAll(body)
	return string(content), err
}

func TestDownload(t *testing.T) {
	s := server(t, httptest.NewServer)
	cases := map[string]struct {
		path  string
		limit int64
		sha   string
		want  string // of the error; empty: the text
	}{
		"plain":                  {"/file", 1000, digest(text), ""},
		"exactly the size":       {"/file", int64(len(text)), digest(text), ""},
		"no length given":        {"/chunked", 1000, digest(text), ""},
		"five redirects":         {"/hops/1234", 1000, digest(text), ""},
		"six redirects":          {"/hops/12345", 1000, digest(text), "more than 5 redirects"},
		"a loop":                 {"/loop", 1000, digest(text), "more than 5 redirects"},
		"announced as too large": {"/file", 5, digest(text), "larger than maxSize, 5 bytes"},
		"turns out too large":    {"/chunked", 5, digest(text), "larger than maxSize, 5 bytes"},
		"another digest":         {"/file", 1000, digest("x"), "and " + digest("x") + " is declared"},
		"cut off":                {"/short", 2000, digest(text + text), "unexpected EOF"},
		"not there":              {"/nothing", 1000, digest(text), "the server answered 404 Not Found"},
		"falls silent":           {"/silent", 1000, digest(text), "the server has fallen silent"},
		"never speaks":           {"/mute", 1000, digest(text), "timeout awaiting response headers"},
		"unreadable redirect":    {"/unreadable", 1000, digest(text), "redirected to a URL that cannot be read"},
		"another scheme":         {"/to?url=file:///etc/passwd", 1000, digest(text), "neither https nor http"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(client(nil), s.URL+c.path, c.sha, c.limit)
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, text, got)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "download "+s.URL)
			require.NotEqual(t, c.sha, digest(got), "it must not pass for whole")
			require.LessOrEqual(t, int64(len(got)), c.limit)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestNothingSecretOfAURLIsPrinted(t *testing.T) {
	s := server(t, httptest.NewServer)
	_, err := read(client(nil), s.URL+"/nothing?signature=hunter2", digest(text), 10)
	require.ErrorContains(t, err, "/nothing?…")
	require.NotContains(t, fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), "hunter2")
	s.Close()
	_, err = read(client(nil), s.URL+"/nothing?signature=hunter2", digest(text), 10)
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "hunter2")
	require.NotContains(t, artifact.Printable("https://a:hunter2@b/c?hunter2#hunter2"), "hunter2")
}

func TestCertificatesAreVerified(t *testing.T) {
	secure, plain := server(t, httptest.NewTLSServer), server(t, httptest.NewServer)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())

	got, err := read(client(roots), secure.URL+"/file", digest(text), 100)
	require.NoError(t, err)
	require.Equal(t, text, got)

	_, err = read(client(x509.NewCertPool()), secure.URL+"/file", digest(text), 100)
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)

	_, err = read(client(roots), secure.URL+"/to?url="+plain.URL+"/file", digest(text), 100)
	require.ErrorContains(t, err, "redirected from https to "+plain.URL)
	got, err = read(client(roots), plain.URL+"/to?url="+secure.URL+"/file", digest(text), 100)
	require.NoError(t, err)
	require.Equal(t, text, got)
}

func TestAddressesAreJudgedWhenConnecting(t *testing.T) {
	s := server(t, httptest.NewServer)
	t.Setenv("HTTP_PROXY", s.URL) // is not used
	refused := artifact.New(artifact.Options{Dialer: fleet.NewAddressPolicy(nil).Dialer(time.Second)})
	_, err := read(refused, s.URL+"/file", digest(text), 100)
	var address *fleet.AddressError
	require.ErrorAs(t, err, &address)
	require.Equal(t, "loopback", address.Range)
}

func TestTheCallerEndsADownload(t *testing.T) {
	s := server(t, httptest.NewServer)
	ctx, cancel := context.WithCancel(context.Background())
	body, err := client(nil).Open(ctx, artifact.Request{URL: s.URL + "/silent", SHA256: digest(text), MaxSize: 100})
	require.NoError(t, err)
	cancel()
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, body.Close())
}
