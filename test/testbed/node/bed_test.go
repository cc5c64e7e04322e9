package node_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/image"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/node"
)

// bed is a control plane on a bridge, with a client and the kubectl of its version.
type bed struct {
	janitor *janitor.Janitor
	network *network.Network
	plane   *controlplane.ControlPlane
	client  kubernetes.Interface
	dir     string
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("a node needs root")
		}
		t.Skip("a node needs root.")
	}
}

func newBed(t *testing.T) *bed {
	t.Helper()
	needRoot(t)
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	n, err := network.New(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plane, err := controlplane.Start(t.Context(), controlplane.Options{
		Dir: filepath.Join(dir, "plane"), Janitor: j, Progress: os.Stderr, Address: n.Address().String(),
		ControllerManager: true, Scheduler: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(plane.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	return &bed{janitor: j, network: n, plane: plane, client: client, dir: dir}
}

func (b *bed) start(t *testing.T, name string, number byte) *node.Node {
	t.Helper()
	begin := time.Now()
	n, err := node.Start(t.Context(), node.Options{
		ControlPlane: b.plane, Network: b.network, Janitor: b.janitor, Dir: b.dir, Progress: os.Stderr,
		Name: name, PodCIDR: b.network.PodPrefix(number),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("node %s was ready after %s", name, time.Since(begin).Round(100*time.Millisecond))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

// pod creates a Pod of busybox on a node, and waits until it is ready.
func (b *bed) pod(t *testing.T, name, on, script string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: on},
			Containers: []corev1.Container{{
				Name: "main", Image: image.BusyboxName, ImagePullPolicy: corev1.PullNever,
				Command: []string{"sh", "-c", script},
			}},
			TerminationGracePeriodSeconds: new(int64),
		},
	}
	pods := b.client.CoreV1().Pods("default")
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually(t, "Pod "+name+" is ready", func() error {
		var err error
		if pod, err = pods.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is %s: %+v %+v", pod.Status.Phase, pod.Status.Conditions, pod.Status.ContainerStatuses)
	})
	return pod
}

// service creates a Service without a selector, as Isthmus does, with the given endpoint.
func (b *bed) service(t *testing.T, name, address string, port int32) string {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	service, err := b.client.CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ready := true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
	}
	if _, err := b.client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return service.Spec.ClusterIP
}

func (b *bed) kubectl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args = append([]string{"--kubeconfig", b.plane.AdminKubeconfig()}, args...)
	out, err := exec.CommandContext(ctx, filepath.Join(b.plane.Programs(), "kubectl"), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

// fetches waits until a Pod gets a page with the wanted text from a URL.
func (b *bed) fetches(t *testing.T, pod, url, want string) {
	t.Helper()
	b.eventually(t, pod+" fetches "+url, func() error {
		out, err := b.kubectl(t, "exec", pod, "--", "wget", "-q", "-O", "-", url)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("it got %q, want %q", out, want)
		}
		return err
	})
}

func (b *bed) eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("%s: not within 40 s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// serve answers on the bridge's address, as a program outside of the cluster does.
func (b *bed) serve(t *testing.T, text string) int32 {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(b.network.Address().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, text)
	})}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return int32(listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
}
