package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var sample = Image{
	Name: "localhost/sample:1",
	Files: []File{
		{Path: "/srv/www/index.html", Content: []byte("hello"), Mode: 0o644},
		{Path: "/bin/app", Content: []byte("#!/bin/sh\n")},
		{Path: "/bin/alias", Link: "app"},
		{Path: "/tmp/", Mode: 0o1777},
	},
	Entrypoint: []string{"/bin/app"}, Env: []string{"A=b"}, User: "1000",
}

func write(t *testing.T, i Image) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := Write(path, i); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// entries reads a tar: for each name a description, and the content by name.
func entries(t *testing.T, archive []byte) ([]string, map[string][]byte) {
	t.Helper()
	var order []string
	contents := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return order, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		info := header.FileInfo()
		order = append(order, strings.TrimSpace(info.Mode().String()+" "+header.Name+" "+header.Linkname))
		contents[header.Name] = content
	}
}

func TestArchive(t *testing.T) {
	_, outer := entries(t, write(t, sample))
	var manifests []manifest
	if err := json.Unmarshal(outer["manifest.json"], &manifests); err != nil {
		t.Fatal(err)
	}
	if len(manifests) != 1 || len(manifests[0].Layers) != 1 || !slices.Equal(manifests[0].RepoTags, []string{sample.Name}) {
		t.Fatalf("manifest = %+v", manifests)
	}
	layer := outer[manifests[0].Layers[0]]
	var config struct {
		OS     string `json:"os"`
		Config struct{ Entrypoint, Env []string }
		RootFS rootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(outer[manifests[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.RootFS.DiffIDs, []string{"sha256:" + digest(layer)}) || config.OS != "linux" {
		t.Errorf("config = %+v, the layer is %s", config, digest(layer))
	}
	if !slices.Equal(config.Config.Entrypoint, sample.Entrypoint) || !slices.Equal(config.Config.Env, sample.Env) {
		t.Errorf("config = %+v", config)
	}
	got, contents := entries(t, layer)
	want := []string{
		"drwxr-xr-x bin/", "Lrwxr-xr-x bin/alias app", "-rwxr-xr-x bin/app",
		"drwxr-xr-x srv/", "drwxr-xr-x srv/www/", "-rw-r--r-- srv/www/index.html", "dtrwxrwxrwx tmp/",
	}
	if !slices.Equal(got, want) {
		t.Errorf("layer:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if string(contents["srv/www/index.html"]) != "hello" {
		t.Errorf("content = %q", contents["srv/www/index.html"])
	}
}

func TestTheSameContentIsTheSameArchive(t *testing.T) {
	shuffled := sample
	shuffled.Files = slices.Clone(sample.Files)
	slices.Reverse(shuffled.Files)
	if !bytes.Equal(write(t, sample), write(t, shuffled)) {
		t.Error("the order of the files changed the archive")
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, image := range map[string]Image{
		"no name":     {Files: sample.Files},
		"no files":    {Name: "localhost/empty:1"},
		"file twice":  {Name: "localhost/twice:1", Files: []File{{Path: "/a", Content: []byte("1")}, {Path: "a", Content: []byte("2")}}},
		"no source":   {Name: "localhost/none:1", Files: []File{{Path: "/a", Source: "/nonexistent"}}},
		"no location": {Name: "localhost/none:1", Files: []File{{Path: "/a"}}},
	} {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := Write(path, image); err == nil {
			t.Errorf("%s: was written", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file was left", name)
		}
	}
}

func TestPauseIsStatic(t *testing.T) {
	path, err := Pause(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(archive, []byte("ld-linux")) || !bytes.Contains(archive, []byte("\x7fELF")) {
		t.Error("the pause image does not hold a static program")
	}
}

// TestBusyboxRuns runs the image's programs in its own file system, with the
// resolver configuration that a kubelet gives to every container.
func TestBusyboxRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("changing the root directory needs root")
		}
		t.Skip("changing the root directory needs root.")
	}
	path, err := Busybox(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	root := unpack(t, path)
	if err := os.WriteFile(filepath.Join(root, "etc/resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("page")) }))
	defer server.Close()
	cmd := exec.CommandContext(t.Context(), "chroot", root, "/bin/sh", "-c", "wget -q -O - "+server.URL)
	cmd.Env = []string{"PATH=/usr/sbin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "page" {
		t.Errorf("wget inside: %v, %q", err, out)
	}
}

// unpack extracts the only layer of an archive into a directory.
func unpack(t *testing.T, path string) string {
	t.Helper()
	archive, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, outer := entries(t, archive)
	var manifests []manifest
	if err := json.Unmarshal(outer["manifest.json"], &manifests); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	extract := exec.CommandContext(t.Context(), "tar", "-x", "-C", root)
	extract.Stdin = bytes.NewReader(outer[manifests[0].Layers[0]])
	if out, err := extract.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}
