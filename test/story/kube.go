package story

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
)

// fieldOwner is who applies what a user would apply.
const fieldOwner = client.FieldOwner("story")

// applyDir applies the manifests of a directory of this repository, as kubectl
// apply -k would, after edit has had its way with each object.
func (b *Bed) applyDir(ctx context.Context, dir string, edit ...func(*unstructured.Unstructured) error) error {
	root, err := cache.Root()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no manifests in %s: %w", dir, err)
	}
	var later []*unstructured.Unstructured
	for _, file := range files {
		objects, err := decode(file)
		if err != nil {
			return err
		}
		later = append(later, objects...)
	}
	return b.applyAll(ctx, later, edit)
}

// applyAll applies namespaces first, as kubectl does.
func (b *Bed) applyAll(ctx context.Context, objects []*unstructured.Unstructured, edit []func(*unstructured.Unstructured) error) error {
	for _, namespaces := range []string{"only", "not"} {
		for _, object := range objects {
			if (object.GetKind() == "Namespace") != (namespaces == "only") {
				continue
			}
			if err := b.edited(ctx, object, edit); err != nil {
				return err
			}
		}
	}
	return nil
}

// errSkip is the answer of an edit that wants an object left out.
var errSkip = errors.New("left out")

func (b *Bed) edited(ctx context.Context, object *unstructured.Unstructured, edit []func(*unstructured.Unstructured) error) error {
	for _, change := range edit {
		if err := change(object); errors.Is(err, errSkip) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return b.apply(ctx, object)
}

func (b *Bed) apply(ctx context.Context, object *unstructured.Unstructured) error {
	err := b.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// decode reads the objects of a file; a kustomization is not one.
func decode(file string) ([]*unstructured.Unstructured, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if object.GetKind() != "" && object.GetKind() != "Kustomization" {
			objects = append(objects, object)
		}
	}
}

// secret makes or replaces a Secret in the story's namespace.
func (b *Bed) secret(ctx context.Context, name string, data map[string][]byte) error {
	existing := &corev1.Secret{}
	err := b.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, existing)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil {
		existing.Data = data
		return b.Client.Update(ctx, existing)
	}
	return b.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data})
}

// Kubectl runs the control plane's own kubectl as the administrator.
func (b *Bed) Kubectl(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(b.ControlPlane.Programs(), "kubectl"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+b.ControlPlane.AdminKubeconfig())
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// wait asks until check returns nil, the time is over, or the context is done.
// The last answer of check is the error: it says what is missing.
func wait(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		if err := check(ctx); err == nil {
			return nil
		} else if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, last)
		case <-ticker.C:
		}
	}
}
