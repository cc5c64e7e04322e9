package image

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

// PauseName and BusyboxName are the references of the images of Pause and Busybox.
const (
	PauseName   = "localhost/pause:1"
	BusyboxName = "localhost/busybox:1"
)

// pauseSource is what the pause image is built from, and so what its key in the cache comes from.
//
//go:embed pause/main.go
var pauseSource []byte

// Pause returns the path of the archive of the pause image.
func Pause(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := cache.Ensure(ctx, key("image-pause", pauseSource), progress, func(ctx context.Context, dir string) error {
		source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "pause")
		if err := os.WriteFile(source, pauseSource, 0o644); err != nil {
			return err
		}
		if err := cache.GoBuild(ctx, dir, "-ldflags", "-s -w", "-o", binary, source); err != nil {
			return err
		}
		return Write(filepath.Join(dir, "pause.tar"), Image{
			Name:       PauseName,
			Files:      []File{{Path: "/pause", Source: binary}},
			Entrypoint: []string{"/pause"},
			User:       "65535:65535",
		})
	})
	return filepath.Join(dir, "pause.tar"), err
}

// Busybox returns the path of the archive of a busybox image: Debian's static
// busybox with a link for each of its applets, and a shell as the command. Note
// that the wget of that busybox crashes when it is given a timeout (-T).
func Busybox(ctx context.Context, progress io.Writer) (string, error) {
	if err := cache.Packages(ctx, progress, "busybox-static"); err != nil {
		return "", err
	}
	binary, err := exec.LookPath("busybox")
	if err != nil {
		return "", fmt.Errorf("find busybox: %w", err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("read busybox: %w", err)
	}
	dir, err := cache.Ensure(ctx, key("image-busybox", content), progress, func(ctx context.Context, dir string) error {
		applets, err := exec.CommandContext(ctx, binary, "--list").Output()
		if err != nil {
			return fmt.Errorf("list the applets of busybox: %w", err)
		}
		return Write(filepath.Join(dir, "busybox.tar"), busybox(content, strings.Fields(string(applets))))
	})
	return filepath.Join(dir, "busybox.tar"), err
}

func busybox(content []byte, applets []string) Image {
	files := []File{
		{Path: "/bin/busybox", Content: content},
		{Path: "/tmp/", Mode: 0o1777},
		{Path: "/etc/passwd", Content: []byte("root:x:0:0:root:/:/bin/sh\n"), Mode: 0o644},
		{Path: "/etc/group", Content: []byte("root:x:0:\n"), Mode: 0o644},
		{Path: "/etc/nsswitch.conf", Content: []byte("hosts: files dns\n"), Mode: 0o644},
	}
	for _, applet := range applets {
		if applet != "busybox" {
			files = append(files, File{Path: "/bin/" + applet, Link: "busybox"})
		}
	}
	return Image{
		Name: BusyboxName, Files: files, Command: []string{"/bin/sh"}, Env: []string{"PATH=/bin"},
	}
}

func key(name string, content []byte) string {
	sum := sha256.Sum256(content)
	return name + "-" + runtime.GOARCH + "-" + hex.EncodeToString(sum[:])[:12]
}
