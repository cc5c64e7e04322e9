package canary

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
)

const (
	namespace = "canary"
	linuxUser = "ops"

	operatorUser = "system:serviceaccount:isthmus-system:isthmus"
)

// planted are the canaries, by what they are.
type planted struct {
	passphrase, become, winrm, wrong          string
	linuxFile, windowsFile, linuxEnv, winEnv  string
	key                                       []byte // with the passphrase
	public                                    ssh.PublicKey
	newLinuxFile, newWindowsFile, newLinuxEnv string
}

// plant makes all secrets new.
func plant(t *testing.T) *planted {
	t.Helper()
	p := &planted{
		passphrase: canary(), become: canary(), winrm: canary(), wrong: canary(),
		linuxFile: canary(), windowsFile: canary(), linuxEnv: canary(), winEnv: canary(),
		newLinuxFile: canary(), newWindowsFile: canary(), newLinuxEnv: canary(),
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "canary", []byte(p.passphrase))
	must(t, err)
	p.key = pem.EncodeToMemory(block)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	p.public = signer.PublicKey()
	return p
}

// named is what the scanner looks for. Of the key each line counts.
func (p *planted) named() map[string]string {
	all := map[string]string{
		"the key's passphrase": p.passphrase, "the password for sudo": p.become,
		"the WinRM password": p.winrm, "the wrong WinRM password": p.wrong,
		"the Linux file": p.linuxFile, "the Windows file": p.windowsFile,
		"the changed Linux file": p.newLinuxFile, "the changed Windows file": p.newWindowsFile,
		"the Linux environment": p.linuxEnv, "the Windows environment": p.winEnv, "the changed Linux environment": p.newLinuxEnv,
	}
	for i, line := range strings.Split(strings.TrimSpace(string(p.key)), "\n") {
		if !strings.HasPrefix(line, "-----") {
			all[fmt.Sprintf("line %d of the key", i)] = line
		}
	}
	return all
}

// bed is a control plane, two hosts and the operator.
type bed struct {
	*planted
	dir      string
	janitor  *janitor.Janitor
	plane    *controlplane.ControlPlane
	linux    *linuxhost.Machine
	windows  *windowshost.Host
	operator *process.Process
	metrics  string
	client   client.Client
	scanner  *scanner
	began    time.Time
}

// start brings all of it up. Processes are watched from before the first secret is used.
func start(t *testing.T) *bed {
	t.Helper()
	b := &bed{planted: plant(t), dir: t.TempDir(), began: time.Now().Add(-time.Second)}
	b.scanner = newScanner(b.named())
	var err error
	b.janitor, err = janitor.New(b.dir)
	must(t, err)
	t.Cleanup(func() {
		if err := b.janitor.Close(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	b.build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	n, err := network.New(ctx, b.janitor)
	must(t, err)
	b.plane, err = controlplane.Start(ctx, controlplane.Options{
		Dir: filepath.Join(b.dir, "controlplane"), Janitor: b.janitor, Progress: t.Output(), Address: n.Address().String(),
	})
	must(t, err)
	b.startHosts(ctx, t, n)
	ctrllog.SetLogger(logr.Discard()) // of the client; the operator is another process
	scheme := runtime.NewScheme()
	must(t, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)))
	b.client, err = client.New(b.plane.AdminConfig(), client.Options{Scheme: scheme})
	must(t, err)
	b.startOperator(ctx, t)
	return b
}

func (b *bed) startHosts(ctx context.Context, t *testing.T, n *network.Network) {
	t.Helper()
	var err error
	b.linux, err = linuxhost.Start(ctx, linuxhost.Options{
		Name: "canary-vm", Network: n, Janitor: b.janitor, Dir: b.dir, Progress: t.Output(), Packages: []string{"busybox-static"},
	})
	must(t, err)
	must(t, b.linux.Authorize(ctx, linuxUser, ssh.MarshalAuthorizedKey(b.public)))
	must(t, b.linux.SetPassword(ctx, linuxUser, b.become))
	must(t, b.linux.AllowSudo(ctx, linuxUser, sudo))
	namespace, err := n.Namespace(ctx, "canary-win")
	must(t, err)
	b.windows, err = windowshost.Start(ctx, windowshost.Options{
		Name: "CANARY-WIN", Dir: b.dir, Janitor: b.janitor, Progress: t.Output(), Namespace: namespace, User: "isthmus", Password: b.winrm,
	})
	must(t, err)
}

// startOperator installs what a user would, and starts the operator with all that it can say in its log.
func (b *bed) startOperator(ctx context.Context, t *testing.T) {
	t.Helper()
	root, err := cache.Root()
	must(t, err)
	b.kubectl(ctx, t, "apply", "--server-side", "-k", filepath.Join(root, "config/crd"))
	b.kubectl(ctx, t, "apply", "--server-side", "-k", filepath.Join(root, "config/rbac"))
	kubeconfig, err := b.plane.KubeconfigFor("operator", operatorUser, "system:serviceaccounts", "system:serviceaccounts:isthmus-system")
	must(t, err)
	b.metrics = freeAddress(t)
	b.operator, err = process.Start(b.janitor, b.dir, "operator", []string{"KUBECONFIG=" + kubeconfig},
		filepath.Join(b.dir, "isthmus"), "--health-probe-bind-address=0", "--metrics-bind-address="+b.metrics, "--namespace=isthmus-system", "--zap-log-level=10")
	must(t, err)
	must(t, b.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
}

// build builds this checkout, before anything waits for it.
func (b *bed) build(t *testing.T) {
	t.Helper()
	root, err := cache.Root()
	must(t, err)
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(b.dir, "isthmus"), ".")
	command.Dir, command.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build the operator: %v\n%s", err, out)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func (b *bed) kubectl(ctx context.Context, t *testing.T, args ...string) []byte {
	t.Helper()
	command := exec.CommandContext(ctx, filepath.Join(b.plane.Programs(), "kubectl"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+b.plane.AdminKubeconfig())
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", args[0], err, stderr.String())
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
