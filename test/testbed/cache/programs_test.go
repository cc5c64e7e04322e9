package cache

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes a source tree with one pinned program and enters it.
func tree(t *testing.T) (root string, p Programs) {
	t.Helper()
	root = t.TempDir()
	for name, content := range map[string]string{
		"hack/tools/kubernetes/go.mod":    "module x\n",
		"hack/tools/hello/go.mod":         "module example.com/hello\n\ngo 1.26\n\nrequire example.com/pinned v1.37.2\n\nreplace example.com/pinned => ./pinned\n",
		"hack/tools/hello/go.sum":         "",
		"hack/tools/hello/pinned/go.mod":  "module example.com/pinned\n\ngo 1.26\n",
		"hack/tools/hello/pinned/main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
		"deep/inside/file":                "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(filepath.Join(root, "deep/inside"))
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	return root, Programs{
		Name: "hello", Module: "hack/tools/hello", Requirement: "example.com/pinned",
		Packages: []string{"example.com/pinned"}, Flags: []string{"-X main.version=VERSION-MAJOR-MINOR"},
	}
}

func TestProgramsAreBuiltFromThePinnedModule(t *testing.T) {
	root, p := tree(t)
	dir, err := p.Ensure(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "pinned"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(binary), "v1.37.2-1-37") {
		t.Error("the linker was not told the version")
	}
	sum := filepath.Join(root, "hack/tools/hello/go.sum")
	if err := os.WriteFile(sum, []byte("\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := p.Ensure(t.Context(), os.Stderr)
	if err != nil || again == dir {
		t.Errorf("with other requirements the programs are still in %s (%v)", again, err)
	}
}

func TestTheOnlyProgramMayHaveItsOwnName(t *testing.T) {
	_, p := tree(t)
	p.Binary = "greeter"
	dir, err := p.Ensure(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "greeter")); err != nil || !slices.Equal(p.Names(), []string{"greeter"}) {
		t.Errorf("names %v: %v", p.Names(), err)
	}
}

func TestTheCompilersWordsAreInTheError(t *testing.T) {
	root, p := tree(t)
	source := filepath.Join(root, "hack/tools/hello/pinned/main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { nonsense() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ensure(t.Context(), os.Stderr); err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("Ensure = %v", err)
	}
}

func TestRootOutsideOfTheSourceTree(t *testing.T) {
	t.Chdir(t.TempDir())
	if root, err := Root(); err == nil {
		t.Errorf("Root = %s", root)
	}
}
