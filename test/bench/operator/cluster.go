package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

const (
	// operatorNamespace is where config/rbac expects the operator.
	operatorNamespace = "isthmus-system"
	// identity is who the operator is to the API server.
	identity = "system:serviceaccount:isthmus-system:isthmus"
	// namespace of the objects of a run.
	namespace = "bench"
	// credentials of the hosts are in this Secret.
	credentials = "hosts"
)

// Cluster is a control plane on which Isthmus is installed.
type Cluster struct {
	Client client.WithWatch

	dir        string
	janitor    *janitor.Janitor
	plane      *controlplane.ControlPlane
	kubeconfig string // the operator's
	processes  []int  // etcd and the API server
}

// StartCluster starts one and installs the CRDs and the operator's role.
func StartCluster(ctx context.Context, j *janitor.Janitor, dir string, progress io.Writer) (*Cluster, error) {
	plane, err := controlplane.Start(ctx, controlplane.Options{Dir: dir, Janitor: j, Progress: progress, Durable: true})
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, janitor: j, plane: plane}
	if err := c.install(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("install Isthmus: %w", err), c.Stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

func (c *Cluster) install(ctx context.Context) error {
	for _, program := range []string{"etcd", "kube-apiserver"} {
		pids, err := usage.Children(program)
		if err != nil {
			return err
		}
		c.processes = append(c.processes, pids...)
	}
	root, err := cache.Root()
	if err != nil {
		return err
	}
	for _, directory := range []string{"config/crd", "config/rbac"} {
		if err := c.apply(ctx, filepath.Join(root, directory)); err != nil {
			return err
		}
	}
	if c.kubeconfig, err = c.plane.KubeconfigFor("operator", identity, "system:serviceaccounts", "system:serviceaccounts:"+operatorNamespace); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	if c.Client, err = client.NewWithWatch(c.plane.AdminConfig(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	return c.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
}

// apply applies the manifests of a directory twice: the order of its files need not be that of what they need.
func (c *Cluster) apply(ctx context.Context, directory string) error {
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil {
		return err
	}
	args := []string{"--kubeconfig", c.plane.AdminKubeconfig(), "apply", "--server-side"}
	for _, file := range files {
		if filepath.Base(file) != "kustomization.yaml" {
			args = append(args, "-f", file)
		}
	}
	kubectl := filepath.Join(c.plane.Programs(), "kubectl")
	if _, err := exec.CommandContext(ctx, kubectl, args...).Output(); err == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, kubectl, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w\n%s", err, out)
	}
	return nil
}

// Stop ends the control plane and removes its state.
func (c *Cluster) Stop(ctx context.Context) error {
	return errors.Join(c.plane.Stop(ctx), os.RemoveAll(c.dir))
}

// scraper makes a ServiceAccount that may read the operator's metrics, and a token of it.
func (c *Cluster) scraper(ctx context.Context) (string, error) {
	const name = "scraper"
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "isthmus-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}},
	}
	for _, object := range []client.Object{account, binding} {
		if err := client.IgnoreAlreadyExists(c.Client.Create(ctx, object)); err != nil {
			return "", err
		}
	}
	request := &authenticationv1.TokenRequest{}
	if err := c.Client.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	return request.Status.Token, nil
}
