package controlplane

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

func newJanitor(t *testing.T) *janitor.Janitor {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func start(t *testing.T, options Options) *ControlPlane {
	t.Helper()
	options.Dir, options.Janitor, options.Progress = t.TempDir(), newJanitor(t), os.Stderr
	c, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestUsersHaveTheRightsThatRBACGivesThem(t *testing.T) {
	c := start(t, Options{})
	admin := clientFor(t, c.AdminConfig())
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if _, err := admin.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path, err := c.KubeconfigFor("clerk", "clerk", "shop-staff")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	clerk := clientFor(t, config).CoreV1().ConfigMaps("shop")
	if _, err := clerk.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Fatalf("List without a role = %v, want that it is forbidden", err)
	}
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "staff"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}
	if _, err := admin.RbacV1().Roles("shop").Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "staff"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "staff"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "shop-staff"}},
	}
	if _, err := admin.RbacV1().RoleBindings("shop").Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the authorizer learns of the binding", func() error {
		_, err := clerk.List(t.Context(), metav1.ListOptions{})
		return err
	})
	entry := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "till"}}
	if _, err := clerk.Create(t.Context(), entry, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("Create with a role that only lists = %v, want that it is forbidden", err)
	}
}

func TestControllersWork(t *testing.T) {
	c := start(t, Options{ControllerManager: true, Scheduler: true, PodCIDR: "10.244.0.0/16"})
	client := clientFor(t, c.AdminConfig())
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}},
	}
	node, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: corev1.PodSpec{
			Containers:  []corev1.Container{{Name: "c", Image: "localhost/none"}},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
	if _, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the controller manager gives the node a Pod subnet", func() error {
		node, err = client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err == nil && !strings.HasPrefix(node.Spec.PodCIDR, "10.244.") {
			err = fmt.Errorf("the Pod subnet is %q", node.Spec.PodCIDR)
		}
		return err
	})
	eventually(t, "the scheduler binds the Pod", func() error {
		pod, err = client.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
		if err == nil && pod.Spec.NodeName != "n1" {
			err = fmt.Errorf("the Pod is on %q: %v", pod.Spec.NodeName, pod.Status.Conditions)
		}
		return err
	})
}

func TestKubectlUsesTheKubeconfig(t *testing.T) {
	c := start(t, Options{})
	out, err := exec.CommandContext(t.Context(), filepath.Join(c.Programs(), "kubectl"),
		"--kubeconfig", c.AdminKubeconfig(), "version").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "Server Version: v1.") {
		t.Errorf("kubectl version printed %s", out)
	}
}

func TestAStateDirectoryServesOneControlPlane(t *testing.T) {
	c := start(t, Options{})
	_, err := Start(t.Context(), Options{Dir: c.options.Dir, Janitor: newJanitor(t)})
	if err == nil {
		t.Fatal("a second control plane started in the same directory")
	}
	if _, err := clientFor(t, c.AdminConfig()).Discovery().ServerVersion(); err != nil {
		t.Errorf("the first one no longer answers: %v", err)
	}
}

func TestAReservedPortIsRefusedToOthers(t *testing.T) {
	p, err := reservePort(net.IPv4(127, 0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", p.number)
	if listener, err := net.Listen("tcp", address); err == nil {
		_ = listener.Close()
		t.Errorf("another program could listen on %s", address)
	}
	if err := p.release(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	_ = listener.Close()
}

// TestKilledOwner runs this test binary again as an owner and kills it with SIGKILL.
func TestKilledOwner(t *testing.T) {
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$")
	owner.Env = append(os.Environ(), "CONTROLPLANE_OWNER="+t.TempDir())
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(strings.TrimPrefix(line, "children"))
	if len(pids) != 2 {
		t.Fatalf("the owner printed %q, want two children", line)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	for _, pid := range pids {
		eventually(t, "process "+pid+" ends", func() error {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			if err == nil && !strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("it runs: %s", stat)
			}
			return nil
		})
	}
}

// TestOwner is the owner that TestKilledOwner starts; by itself it has nothing to do.
func TestOwner(t *testing.T) {
	dir := os.Getenv("CONTROLPLANE_OWNER")
	if dir == "" {
		return // a helper process, and nothing when TestKilledOwner does not start it
	}
	j, err := janitor.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(t.Context(), Options{Dir: filepath.Join(dir, "state"), Janitor: j, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	line := "children"
	for _, p := range c.processes {
		line += fmt.Sprint(" ", p.PID())
	}
	fmt.Println(line)
	select {}
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
