// Package controlplane runs a real Kubernetes control plane on this machine:
// etcd, kube-apiserver and, if asked for, kube-controller-manager and
// kube-scheduler, built from Go modules that this repository pins.
//
// It owns those processes, the cluster's certificate authority and the kubeconfig
// files, all in one state directory. Authorization is Node,RBAC with the
// NodeRestriction admission plugin, as in a production cluster: what a test is
// allowed here it is allowed there.
//
// It promises that a control plane that Start returns is ready to serve, that its
// port is not taken by another program while it lives, and that nothing of it is
// left running once its owner has ended.
//
// It must never listen on an address other than the one it was given, and etcd is
// reached through a socket in the state directory only.
package controlplane
