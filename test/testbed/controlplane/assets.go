package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

// versionPackage holds the version that a program of Kubernetes believes to have.
const versionPackage = "k8s.io/component-base/version"

// kubernetesPrograms describes programs of Kubernetes. Without the flags they call
// themselves v0.0.0-master, and clients and Helm charts compare versions.
func kubernetesPrograms(name string, commands ...string) cache.Programs {
	p := cache.Programs{
		Name: name, Module: "hack/tools/kubernetes", Requirement: "k8s.io/kubernetes",
		Flags: []string{
			"-s", "-w",
			"-X " + versionPackage + ".gitVersion=VERSION",
			"-X " + versionPackage + ".gitMajor=MAJOR",
			"-X " + versionPackage + ".gitMinor=MINOR",
			"-X " + versionPackage + ".gitTreeState=clean",
		},
	}
	for _, command := range commands {
		p.Packages = append(p.Packages, "k8s.io/kubernetes/cmd/"+command)
	}
	return p
}

var (
	etcd = cache.Programs{
		Name: "etcd", Module: "hack/tools/etcd", Requirement: "go.etcd.io/etcd/server/v3",
		Packages: []string{"go.etcd.io/etcd/server/v3"}, Binary: "etcd", Flags: []string{"-s -w"},
	}
	server  = kubernetesPrograms("kubernetes-server", "kube-apiserver", "kubectl")
	cluster = kubernetesPrograms("kubernetes-cluster", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
)

// assets are what envtest looks for in KUBEBUILDER_ASSETS.
var assets = []string{"etcd", "kube-apiserver", "kubectl"}

// Assets returns a directory with etcd, kube-apiserver and kubectl, for use as
// KUBEBUILDER_ASSETS. It is the one that this variable names if that holds all
// three; what it does not hold is built.
func Assets(ctx context.Context, progress io.Writer) (string, error) {
	given := os.Getenv("KUBEBUILDER_ASSETS")
	paths := map[string]string{}
	for _, name := range assets {
		path := filepath.Join(given, name)
		if given != "" && isFile(path) {
			paths[name] = path
		}
	}
	if len(paths) == len(assets) {
		return given, nil
	}
	if err := build(ctx, progress, paths, etcd, server); err != nil {
		return "", err
	}
	return gather(ctx, paths)
}

// Binaries returns a directory with all programs of a control plane and of a
// node: those of Assets, kube-controller-manager, kube-scheduler, kubelet and
// kube-proxy.
func Binaries(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := Assets(ctx, progress)
	if err != nil {
		return "", err
	}
	paths := map[string]string{}
	for _, name := range assets {
		paths[name] = filepath.Join(dir, name)
	}
	if err := build(ctx, progress, paths, cluster); err != nil {
		return "", err
	}
	return gather(ctx, paths)
}

// build makes sure of the programs and adds the path of each that has none yet.
func build(ctx context.Context, progress io.Writer, paths map[string]string, groups ...cache.Programs) error {
	for _, group := range groups {
		if !wanted(group, paths) {
			continue
		}
		dir, err := group.Ensure(ctx, progress)
		if err != nil {
			return err
		}
		for _, name := range group.Names() {
			if paths[name] == "" {
				paths[name] = filepath.Join(dir, name)
			}
		}
	}
	return nil
}

func wanted(group cache.Programs, paths map[string]string) bool {
	for _, name := range group.Names() {
		if paths[name] == "" {
			return true
		}
	}
	return false
}

// gather returns a directory of links to the programs. Its key is made from their
// paths, so that another version or another KUBEBUILDER_ASSETS is another directory.
func gather(ctx context.Context, paths map[string]string) (string, error) {
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		_, _ = fmt.Fprintf(hash, "%s\x00%s\x00", name, paths[name])
	}
	key := fmt.Sprintf("programs-%d-%s", len(paths), hex.EncodeToString(hash.Sum(nil))[:12])
	return cache.Ensure(ctx, key, nil, func(_ context.Context, dir string) error {
		for name, path := range paths {
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
