package node_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const web = `mkdir /www && hostname >/www/index.html && echo serving && exec httpd -f -v -p 8080 -h /www`

func TestNodesRunRealPods(t *testing.T) {
	b := newBed(t)
	b.start(t, "alpha", 1)
	b.start(t, "beta", 2)
	server := b.pod(t, "server", "alpha", web)
	b.pod(t, "near", "alpha", "exec sleep 3600")
	b.pod(t, "far", "beta", "exec sleep 3600")

	inside := b.service(t, "inside", server.Status.PodIP, 8080)
	port := b.serve(t, "outside world")
	outside := b.service(t, "outside", b.network.Address().String(), port)
	for _, client := range []string{"near", "far"} {
		b.fetches(t, client, "http://"+inside+"/", "server")
		b.fetches(t, client, fmt.Sprintf("http://%s:%d/", b.network.Address(), port), "outside world")
		b.fetches(t, client, "http://"+outside+"/", "outside world")
	}
	kubernetes, err := b.client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.kubectl(t, "exec", "far", "--", "nc", "-w", "5", kubernetes.Spec.ClusterIP, "443", "-e", "true"); err != nil {
		t.Errorf("a Pod does not reach the API server: %v", err)
	}
	if err := get("http://" + net.JoinHostPort(server.Status.PodIP, "8080")); err != nil {
		t.Errorf("a Pod is not reachable from the test bed: %v", err)
	}
	logs, err := b.kubectl(t, "logs", "server")
	if err != nil || !strings.Contains(logs, "serving") {
		t.Errorf("kubectl logs = %q, %v", logs, err)
	}
	if _, err := b.kubectl(t, "exec", "server", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("kubectl exec of exit 7 = %v", err)
	}
}

func TestANodeComesBackAfterAReboot(t *testing.T) {
	b := newBed(t)
	n := b.start(t, "gamma", 3)
	before := b.pod(t, "server", "gamma", web)
	if err := n.Machine().Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	boot, err := n.Machine().BootID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.eventually(t, "the kubelet reports the new boot", func() error {
		object, err := b.client.CoreV1().Nodes().Get(t.Context(), "gamma", metav1.GetOptions{})
		if err == nil && object.Status.NodeInfo.BootID != boot {
			err = fmt.Errorf("it reports boot %s, want %s", object.Status.NodeInfo.BootID, boot)
		}
		return err
	})
	if err := n.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.eventually(t, "the Pod runs again", func() error {
		pod, err := b.client.CoreV1().Pods("default").Get(t.Context(), "server", metav1.GetOptions{})
		if err != nil {
			return err
		}
		status := pod.Status.ContainerStatuses[0]
		if pod.UID != before.UID || status.RestartCount != 1 || !status.Ready {
			return fmt.Errorf("UID %s, status %+v", pod.UID, status)
		}
		return get("http://" + net.JoinHostPort(pod.Status.PodIP, "8080"))
	})
}

func TestANodeLeavesAndJoinsAgain(t *testing.T) {
	b := newBed(t)
	n := b.start(t, "delta", 4)
	if err := n.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.CoreV1().Nodes().Get(t.Context(), "delta", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the Node is still there: %v", err)
	}
	if err := n.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	object, err := b.client.CoreV1().Nodes().Get(t.Context(), "delta", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if object.Spec.PodCIDR != b.network.PodPrefix(4).String() {
		t.Errorf("the Pod subnet is %q", object.Spec.PodCIDR)
	}
	b.pod(t, "after", "delta", "exec sleep 3600")
}

func get(url string) error {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
