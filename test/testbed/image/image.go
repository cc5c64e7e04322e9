package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Image is the content of a container image and how a container of it starts.
type Image struct {
	// Name is the full reference, such as "localhost/pause:1".
	Name string
	// Files are the content of the file system. Directories above them are added.
	Files []File
	// Entrypoint and Command are the program and its arguments; either may be empty.
	Entrypoint, Command []string
	// Env holds variables as NAME=VALUE.
	Env []string
	// User is "UID" or "UID:GID"; root if empty.
	User string
}

// File is a regular file, a symbolic link or a directory.
type File struct {
	// Path is absolute in the container; one that ends in a slash is a directory.
	Path string
	// Mode has the permission bits, 0755 if it is zero.
	Mode int64
	// Source is the path of the content on this machine, if Content is nil.
	Source  string
	Content []byte
	// Link is the target of a symbolic link.
	Link string
}

// Write writes the image to a tar file at path, which "ctr images import" and
// "docker load" understand.
func Write(path string, image Image) error {
	if image.Name == "" || len(image.Files) == 0 {
		return errors.New("write image: it has no name or no files")
	}
	archive, err := image.archive()
	if err != nil {
		return fmt.Errorf("write image %s: %w", image.Name, err)
	}
	if err := os.WriteFile(path, archive, 0o644); err != nil {
		return fmt.Errorf("write image %s: %w", image.Name, err)
	}
	return nil
}

// archive builds the outer tar: the layer, the configuration, and the manifest that names both.
func (i Image) archive() ([]byte, error) {
	layer, err := i.layer()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(i.config(digest(layer)))
	if err != nil {
		return nil, err
	}
	layerName, configName := digest(layer)+".tar", digest(config)+".json"
	manifest, err := json.Marshal([]manifest{{Config: configName, RepoTags: []string{i.Name}, Layers: []string{layerName}}})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, entry := range []File{
		{Path: layerName, Content: layer, Mode: 0o644},
		{Path: configName, Content: config, Mode: 0o644},
		{Path: "manifest.json", Content: manifest, Mode: 0o644},
	} {
		if err := entry.writeTo(w); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// layer is the file system as a tar, sorted by path, so that a directory comes before what is in it.
func (i Image) layer() ([]byte, error) {
	files := map[string]File{}
	for _, file := range i.Files {
		name := strings.TrimPrefix(path.Clean("/"+file.Path), "/")
		if strings.HasSuffix(file.Path, "/") {
			name += "/"
		}
		if _, twice := files[name]; twice {
			return nil, fmt.Errorf("file %s is there twice", file.Path)
		}
		file.Path = name
		files[name] = file
		for dir := path.Dir(strings.TrimSuffix(name, "/")); dir != "."; dir = path.Dir(dir) {
			if _, known := files[dir+"/"]; !known {
				files[dir+"/"] = File{Path: dir + "/"}
			}
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, file := range sorted(files) {
		if err := file.writeTo(w); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

func sorted(files map[string]File) []File {
	var all []File
	for _, file := range files {
		all = append(all, file)
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// writeTo writes one entry. Its time is fixed: an image shall depend on its content only.
func (f File) writeTo(w *tar.Writer) error {
	header := &tar.Header{Name: f.Path, Mode: f.Mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if header.Mode == 0 {
		header.Mode = 0o755
	}
	content := f.Content
	switch {
	case strings.HasSuffix(f.Path, "/"):
		header.Typeflag, content = tar.TypeDir, nil
	case f.Link != "":
		header.Typeflag, header.Linkname, content = tar.TypeSymlink, f.Link, nil
	case content == nil:
		var err error
		if content, err = os.ReadFile(f.Source); err != nil {
			return fmt.Errorf("read the content of %s: %w", f.Path, err)
		}
		fallthrough
	default:
		header.Typeflag, header.Size = tar.TypeReg, int64(len(content))
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(content))
	return err
}

// manifest is one entry of manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// config is the image configuration (OCI image specification, "Image configuration").
type config struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       container `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
}

type container struct {
	Env        []string `json:",omitempty"`
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
	User       string   `json:",omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

func (i Image) config(layer string) config {
	return config{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config:       container{Env: i.Env, Entrypoint: i.Entrypoint, Cmd: i.Command, User: i.User},
		RootFS:       rootFS{Type: "layers", DiffIDs: []string{"sha256:" + layer}},
	}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
