package cache

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// Programs are Go programs that a module of this repository pins.
type Programs struct {
	// Name begins the key in the cache and the lines of progress.
	Name string
	// Module is the directory of the module, relative to the root of this repository.
	Module string
	// Requirement is the module path whose version, as go.mod requires it, is theirs.
	Requirement string
	// Packages are the import paths of the main packages.
	Packages []string
	// Binary is the file name of a program that is alone and whose package has another name.
	Binary string
	// Flags are given to the linker; VERSION, MAJOR and MINOR in one stand for the
	// version and its first two numbers.
	Flags []string
}

// Names are the file names of the programs.
func (p Programs) Names() []string {
	if p.Binary != "" {
		return []string{p.Binary}
	}
	var names []string
	for _, pkg := range p.Packages {
		names = append(names, path.Base(pkg))
	}
	return names
}

// Version is the version that go.mod requires, such as "v1.37.2".
func (p Programs) Version() (string, error) {
	mod, err := p.read("go.mod")
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(mod))
	for lines.Scan() {
		fields := strings.Fields(strings.TrimPrefix(lines.Text(), "require "))
		if len(fields) >= 2 && fields[0] == p.Requirement {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s/go.mod does not require %s", p.Module, p.Requirement)
}

// Ensure returns the directory that holds the programs and builds them if need be.
func (p Programs) Ensure(ctx context.Context, progress io.Writer) (string, error) {
	version, err := p.Version()
	if err != nil {
		return "", err
	}
	flags := p.linkerFlags(version)
	key, err := p.key(version, flags)
	if err != nil {
		return "", err
	}
	return Ensure(ctx, key, progress, func(ctx context.Context, dir string) error {
		root, err := Root()
		if err != nil {
			return err
		}
		// The slash is what makes dir a directory to the go command.
		args := append([]string{"-ldflags", flags, "-o", dir + "/" + p.Binary}, p.Packages...)
		return GoBuild(ctx, filepath.Join(root, p.Module), args...)
	})
}

func (p Programs) linkerFlags(version string) string {
	numbers := append(strings.Split(strings.TrimPrefix(version, "v"), "."), "", "")
	replace := strings.NewReplacer("VERSION", version, "MAJOR", numbers[0], "MINOR", numbers[1])
	return replace.Replace(strings.Join(p.Flags, " "))
}

// key changes with everything that the programs are built from, the compiler aside.
func (p Programs) key(version, flags string) (string, error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := p.read(name)
		if err != nil {
			return "", err
		}
		hash.Write(content)
	}
	_, _ = fmt.Fprintln(hash, p.Packages, p.Binary, flags, runtime.GOOS, runtime.GOARCH)
	return fmt.Sprintf("%s-%s-%s", p.Name, version, hex.EncodeToString(hash.Sum(nil))[:12]), nil
}

func (p Programs) read(name string) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(root, p.Module, name))
	if err != nil {
		return nil, fmt.Errorf("read the pinned versions: %w", err)
	}
	return content, nil
}

// GoBuild runs go build in dir for static, reproducible programs. The compiler's
// output is in the error.
func GoBuild(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", dir, errors.Join(ctx.Err(), err), bytes.TrimSpace(out))
	}
	return nil
}

// Root returns the root of this repository: the nearest directory at or above
// the working directory that holds its pinned tools. Tests and "go run" work
// inside it; the test bed cannot be built from elsewhere.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if isDir(filepath.Join(at, "hack", "tools", "kubernetes")) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside the source tree of Isthmus, which the test bed is built from", dir)
		}
	}
}
