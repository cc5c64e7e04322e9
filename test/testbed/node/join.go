package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Join makes the machine a node of the control plane and waits until it is Ready.
func (n *Node) Join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := n.join(ctx); err != nil {
		return fmt.Errorf("join node %s: %w", n.options.Name, err)
	}
	return nil
}

func (n *Node) join(ctx context.Context) error {
	client, err := n.client()
	if err != nil {
		return err
	}
	if err := n.register(ctx, client); err != nil {
		return err
	}
	if err := n.credentials(); err != nil {
		return err
	}
	if _, err := n.machine.Run(ctx, "systemctl", "enable", "--now", "kubelet.service", "kube-proxy.service"); err != nil {
		return err
	}
	return n.WaitReady(ctx)
}

// register creates the Node with its Pod subnet, which a kubelet may not set; the
// kubelet takes over a Node that it finds.
func (n *Node) register(ctx context.Context, client kubernetes.Interface) error {
	cidr := n.options.PodCIDR.String()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.options.Name},
		Spec:       corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}},
	}
	_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the Node: %w", err)
	}
	return nil
}

// credentials puts the certificates of the node's programs into the machine.
func (n *Node) credentials() error {
	name := n.options.Name
	kubelet, err := n.options.ControlPlane.KubeconfigFor("kubelet-"+name, "system:node:"+name, "system:nodes")
	if err != nil {
		return err
	}
	proxy, err := n.options.ControlPlane.KubeconfigFor("kube-proxy-"+name, "system:kube-proxy")
	if err != nil {
		return err
	}
	for from, to := range map[string]string{
		kubelet: "kubelet.kubeconfig", proxy: "kube-proxy.kubeconfig", n.options.ControlPlane.CACertificate(): "ca.crt",
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("read %s: %w", to, err)
		}
		if err := os.WriteFile(filepath.Join(n.machine.Root(), configDir, to), content, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", to, err)
		}
	}
	return nil
}

// WaitReady waits until the kubelet has reported the Node as ready since now or
// before, and kube-proxy has set up the Services. An error carries what the
// programs inside have to say.
func (n *Node) WaitReady(ctx context.Context) error {
	client, err := n.client()
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := errors.Join(n.ready(ctx, client), n.proxies(ctx))
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-n.machine.Off():
			return fmt.Errorf("%w; the machine is off", err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w\n%s", ctx.Err(), err, n.journal())
		}
	}
}

func (n *Node) ready(ctx context.Context, client kubernetes.Interface) error {
	node, err := client.CoreV1().Nodes().Get(ctx, n.options.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("the Node is not ready: %v", node.Status.Conditions)
}

// proxies asks kube-proxy itself: it is healthy once it has written its rules.
func (n *Node) proxies(ctx context.Context) error {
	_, err := n.machine.Run(ctx, "nft", "list", "chain", "ip", "kube-proxy", "services")
	if err != nil {
		return fmt.Errorf("kube-proxy has no rules yet: %w", err)
	}
	return nil
}

// journal is the end of what the node's programs have logged.
func (n *Node) journal() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := n.machine.Run(ctx, "journalctl", "--no-pager", "-n", "40",
		"-u", "containerd", "-u", "kubelet", "-u", "kube-proxy", "-u", setupUnit)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// Leave stops the node's programs and removes the Node. The machine keeps
// running and can Join again.
func (n *Node) Leave(ctx context.Context) error {
	client, err := n.client()
	if err != nil {
		return err
	}
	if _, err := n.machine.Run(ctx, "systemctl", "disable", "--now", "kubelet.service", "kube-proxy.service"); err != nil {
		return fmt.Errorf("leave with node %s: %w", n.options.Name, err)
	}
	err = client.CoreV1().Nodes().Delete(ctx, n.options.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("leave with node %s: %w", n.options.Name, err)
	}
	return nil
}
