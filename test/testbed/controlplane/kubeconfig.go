package controlplane

import (
	"encoding/pem"
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// KubeconfigFor writes the kubeconfig file NAME.kubeconfig, with a client
// certificate of the given user and groups, and returns its path. A user has the
// rights that RBAC gives it; kubelets are system:node:NAME of system:nodes.
func (c *ControlPlane) KubeconfigFor(name string, user string, groups ...string) (string, error) {
	client, err := c.pki.client(user, groups...)
	if err != nil {
		return "", fmt.Errorf("make kubeconfig %s: %w", name, err)
	}
	return c.writeKubeconfig(name, client)
}

func (c *ControlPlane) writeKubeconfig(name string, client credentials) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["testbed"] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: c.pki.caCert}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: client.cert, ClientKeyData: client.key}
	config.Contexts["testbed"] = &clientcmdapi.Context{Cluster: "testbed", AuthInfo: name}
	config.CurrentContext = "testbed"
	path := c.path(name + ".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig %s: %w", name, err)
	}
	return path, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, encodePEM(kind, der), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", kind, err)
	}
	return nil
}
