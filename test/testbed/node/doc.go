// Package node runs real Kubernetes nodes: machines of package linuxhost with
// containerd, runc, CNI, kubelet and kube-proxy, which run real Pods.
//
// It owns what is put into such a machine and how the machine joins a control
// plane. All programs run as systemd units inside, so that a restart of the
// kubelet or a reboot of the machine does to them what it does to any node.
//
// It promises that a node that Start returns is Ready, that its Pods reach each
// other, the cluster IPs of Services and the test bed's network, and that its
// control groups and mounts end with its machine.
//
// Debian's runc and CNI plugins are part of the machine's image: they are linked
// against libraries of the machine. Kubernetes and containerd are static programs
// of the pinned versions, and are shown inside read-only. No image is pulled: what
// Pods run is imported from archives of package image, and Pods set
// imagePullPolicy to Never.
//
// It must never change the network, the firewall or the control groups of this
// machine outside of the node's own.
package node
