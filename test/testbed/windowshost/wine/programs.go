package wine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

// compiler is Debian's C compiler for 64-bit Windows.
const compiler = "x86_64-w64-mingw32-gcc"

// sources are the programs that every prefix has.
//
//go:embed programs
var sources embed.FS

// programs says where each program goes in system32 and what it is built from.
var programs = []struct {
	path  string
	files []string
	libs  []string
}{
	{`wbem/WmiPrvSE.exe`, []string{"provider.c", "services.c", "processes.c", "registry.c", "settings.c"}, []string{"-lpsapi", "-lntdll"}},
	{`winrshost.exe`, []string{"shellhost.c"}, nil},
	{`sc.exe`, []string{"sc.c", "settings.c"}, []string{"-lshell32"}},
}

// Compile builds a Windows program from C sources with mingw, which it installs if
// need be. Libraries are given as for the linker, such as -lws2_32.
func Compile(ctx context.Context, progress io.Writer, target string, files []string, libs ...string) error {
	if err := cache.Packages(ctx, progress, "gcc-mingw-w64-x86-64"); err != nil {
		return err
	}
	args := append([]string{"-O2", "-Wall", "-Werror", "-s", "-static", "-o", target}, files...)
	cmd := exec.CommandContext(ctx, compiler, append(args, libs...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", filepath.Base(target), err, bytes.TrimSpace(out))
	}
	return nil
}

// compileAll builds the programs of a prefix into system32.
func compileAll(ctx context.Context, progress io.Writer, system32 string) error {
	dir, err := os.MkdirTemp("", "isthmus-programs-")
	if err != nil {
		return fmt.Errorf("compile programs: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing depends on it
	if err := os.CopyFS(dir, sources); err != nil {
		return fmt.Errorf("compile programs: %w", err)
	}
	for _, program := range programs {
		target := filepath.Join(system32, program.path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("compile programs: %w", err)
		}
		// Wine has put a program of its own there.
		if err := os.RemoveAll(target); err != nil {
			return fmt.Errorf("compile programs: %w", err)
		}
		var files []string
		for _, file := range program.files {
			files = append(files, filepath.Join(dir, "programs", file))
		}
		if err := Compile(ctx, progress, target, files, program.libs...); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint changes whenever one of the programs does.
func fingerprint() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := sources.ReadFile(path)
		_, _ = fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read program sources: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}
