package node

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed files
var files embed.FS

const (
	// configDir holds the configuration of the Kubernetes programs.
	configDir = "etc/kubernetes"
	// setupUnit prepares the machine at every boot, before the container runtime.
	setupUnit = "isthmus-node.service"
)

// destinations says where in the machine each file goes.
var destinations = map[string]string{
	"setup.sh":           "etc/isthmus/setup.sh",
	"shutdown.sh":        "etc/isthmus/shutdown.sh",
	"system.conf":        "etc/systemd/system.conf.d/node.conf",
	"masquerade.nft":     "etc/isthmus/masquerade.nft",
	"setup.service":      "etc/systemd/system/" + setupUnit,
	"containerd.service": "etc/systemd/system/containerd.service",
	"containerd.toml":    "etc/containerd/config.toml",
	"cni.conflist":       "etc/cni/net.d/10-pods.conflist",
	"kubelet.service":    "etc/systemd/system/kubelet.service",
	"kubelet.yaml":       configDir + "/kubelet.yaml",
	"kube-proxy.service": "etc/systemd/system/kube-proxy.service",
	"kube-proxy.yaml":    configDir + "/kube-proxy.yaml",
}

// values are what the files are filled in with.
type values struct{ Name, Address, PodCIDR string }

// install writes the configuration of the node into the machine's file system.
func (n *Node) install() error {
	v := values{
		Name: n.options.Name, Address: n.machine.Address().String(), PodCIDR: n.options.PodCIDR.String(),
	}
	for name, destination := range destinations {
		content, err := render(name, v)
		if err != nil {
			return err
		}
		path := filepath.Join(n.machine.Root(), destination)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
	}
	return nil
}

func render(name string, v values) ([]byte, error) {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, fmt.Errorf("install %s: %w", name, err)
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("install %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("install %s: %w", name, err)
	}
	return out.Bytes(), nil
}
