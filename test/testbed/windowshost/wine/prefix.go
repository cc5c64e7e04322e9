package wine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

// layout is part of the cache key: it changes when a prefix is prepared in another way.
const layout = "1"

// powershell is Wine's stub, which does nothing and says that it went well.
const powershell = "prefix/drive_c/windows/system32/WindowsPowerShell"

// shared are the kinds of files that no program changes. They make up nearly all of
// the 700 MB of a prefix, and a copy shares them with the cache by hard links;
// they are read-only, which Wine shows as the read-only attribute.
var shared = map[string]bool{
	".dll": true, ".exe": true, ".sys": true, ".drv": true, ".ocx": true, ".cpl": true, ".acm": true, ".ax": true,
	".nls": true, ".tlb": true, ".msstyles": true, ".com": true, ".ds": true, ".dll16": true, ".vxd": true,
}

// find looks for a program of Debian's Wine, which is not on the PATH.
func find(name string) (string, error) {
	for _, dir := range []string{"/usr/lib/wine", "/usr/lib/x86_64-linux-gnu/wine", "/usr/bin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s of Wine: %w", name, err)
	}
	return path, nil
}

// install makes sure that Wine is there and returns its loader and its server.
func install(ctx context.Context, progress io.Writer) (loader, server string, err error) {
	if loader, err = find("wine64"); err != nil {
		if err = cache.Packages(ctx, progress, "wine", "wine64"); err != nil {
			return "", "", err
		}
		if loader, err = find("wine64"); err != nil {
			return "", "", err
		}
	}
	if server, err = find("wineserver64"); err != nil {
		server, err = find("wineserver")
	}
	return loader, server, err
}

// bootedPrefix is the directory in the cache that holds a prefix which has been
// booted once, with the programs in place.
func bootedPrefix(ctx context.Context, c Config, loader, server string) (string, error) {
	version, err := exec.CommandContext(ctx, loader, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask for the version of Wine: %w", err)
	}
	programs, err := fingerprint()
	if err != nil {
		return "", err
	}
	release, _, _ := strings.Cut(string(bytes.TrimSpace(version)), " ")
	key := fmt.Sprintf("windowshost-%s-%s-%s", release, layout, programs)
	return cache.Ensure(ctx, key, c.Progress, func(ctx context.Context, dir string) error {
		m := &Machine{config: c, dir: dir, loader: loader, server: server}
		if err := m.firstBoot(ctx); err != nil {
			return err
		}
		return prepare(ctx, c.Progress, dir)
	})
}

// firstBoot lets Wine fill an empty prefix.
func (m *Machine) firstBoot(ctx context.Context) error {
	if err := os.Mkdir(m.prefix(), 0o755); err != nil {
		return fmt.Errorf("make prefix: %w", err)
	}
	if err := m.startServer(ctx); err != nil {
		return err
	}
	err := m.bootWindows(ctx, m.prefix(), "wineboot", "-i")
	return errors.Join(err, m.stopServer(ctx))
}

// prepare takes the user's home and the other drives out of a new prefix, and puts
// the programs in.
func prepare(ctx context.Context, progress io.Writer, dir string) error {
	prefix := filepath.Join(dir, "prefix")
	for _, path := range []string{"prefix/dosdevices/z:", "prefix/dosdevices/com1", "prefix/wineserver", "tmp", "wineserver.log", powershell} {
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			return fmt.Errorf("prepare prefix: %w", err)
		}
	}
	drive := filepath.Join(prefix, "drive_c")
	if err := compileAll(ctx, progress, filepath.Join(drive, "windows", "system32")); err != nil {
		return err
	}
	return filepath.WalkDir(drive, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Type()&fs.ModeSymlink != 0:
			// Documents and the like, which point to the home of the user who runs Wine.
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		case entry.Type().IsRegular() && shared[strings.ToLower(filepath.Ext(path))]:
			return os.Chmod(path, 0o444)
		}
		return nil
	})
}

// copyPrefix makes a prefix of its own out of the one in the cache.
func copyPrefix(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case entry.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case shared[strings.ToLower(filepath.Ext(path))] && os.Link(path, target) == nil:
			return nil
		default:
			return copyFile(path, target)
		}
	})
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // only read
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// setName gives the machine its name. Wine would take the Linux host's.
func setName(prefix, name string) error {
	settings := map[string]string{
		"system.reg": "\n[System\\\\CurrentControlSet\\\\Control\\\\ComputerName\\\\ComputerName]\n\"ComputerName\"=\"" + name + "\"\n",
		"user.reg":   "\n[Software\\\\Wine\\\\Network]\n\"UseDnsComputerName\"=\"N\"\n",
	}
	for file, section := range settings {
		registry, err := os.OpenFile(filepath.Join(prefix, file), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return fmt.Errorf("name the machine: %w", err)
		}
		_, err = registry.WriteString(section)
		if err = errors.Join(err, registry.Close()); err != nil {
			return fmt.Errorf("name the machine: %w", err)
		}
	}
	return nil
}
