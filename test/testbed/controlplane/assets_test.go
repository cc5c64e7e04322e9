package controlplane

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// give makes a directory with the named programs and sets KUBEBUILDER_ASSETS to it.
func give(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KUBEBUILDER_ASSETS", dir)
	return dir
}

func TestAssetsThatTheUserHasAreUsed(t *testing.T) {
	given := give(t, assets...)
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	dir, err := Assets(t.Context(), os.Stderr)
	if err != nil || dir != given {
		t.Errorf("Assets = %q, %v; want %q", dir, err, given)
	}
}

func TestMissingAssetsAreBuilt(t *testing.T) {
	given := give(t, "kube-apiserver", "kubectl")
	dir, err := Assets(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range assets {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if isGiven := filepath.Dir(path) == given; isGiven != (name != "etcd") {
			t.Errorf("%s is %s", name, path)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func TestEnvtestTakesTheAssets(t *testing.T) {
	dir, err := Assets(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	environment := &envtest.Environment{BinaryAssetsDirectory: dir}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	want, err := server.Version()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" && version.GitVersion != want {
		t.Errorf("the API server is %s, want %s", version.GitVersion, want)
	}
}
