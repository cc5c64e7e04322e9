package canary

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// sinks are the places in which no secret may be.
var sinks = []string{"log", "objects", "metrics", "cmdline", "environ", "Linux disk", "Linux memory disks", "Linux journal", "Windows disk"}

func TestCanary(t *testing.T) {
	for missing, why := range map[bool]string{
		os.Geteuid() != 0: "the canaries need root: they live on machines on a bridge",
		noProgram("wine"): "the canaries need a Windows host, and wine is not installed",
	} {
		if missing && os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		if missing {
			t.Skip(why)
		}
	}
	b := start(t)
	watched := watchProcesses(b.scanner)
	t.Cleanup(func() {
		if t.Failed() {
			b.showLog(t)
		}
	})
	for _, part := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"Refused", b.refused},
		{"Created", b.created},
		{"Changed", b.changed},
		{"Failed", b.failed},
		{"Repaired", b.repaired},
		{"Deleted", b.deleted},
	} {
		if !t.Run(part.name, part.run) {
			break
		}
		b.scanObjects(t)
		b.scanMetrics(t)
		b.scanHosts(t)
	}
	b.scanLog(t)
	t.Logf("all processes were looked at %d times", watched.end())
	b.scanner.report(t, sinks)
	if t.Failed() {
		return // What leaks from here on is planted, and would keep the log from being shown.
	}
	t.Run("CanFail", b.canFail)
}

func noProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err != nil
}

// refused: credentials that do not fit are a failure that is told of.
func (b *bed) refused(t *testing.T) {
	b.declareHosts(t, b.wrong)
	b.awaitHost(t, "windows", v1alpha1.CredentialsAcceptedCondition, metav1.ConditionFalse)
	wrong := b.linuxCredentials()
	wrong["passphrase"] = b.wrong
	b.secret(t.Context(), t, "linux", wrong)
	b.ask(t, "linux")
	b.awaitHost(t, "linux", v1alpha1.CredentialsAcceptedCondition, metav1.ConditionFalse)
	b.secret(t.Context(), t, "linux", b.linuxCredentials())
	b.secret(t.Context(), t, "windows", map[string]string{"username": "isthmus", "password": b.winrm})
	b.awaitHost(t, "linux", v1alpha1.ReadyCondition, metav1.ConditionTrue)
	b.awaitHost(t, "windows", v1alpha1.ReadyCondition, metav1.ConditionTrue)
}

func (b *bed) created(t *testing.T) {
	for name, spec := range b.files("root") {
		b.declare(t, name, spec)
	}
	for name := range b.files("") {
		b.awaitService(t, name, metav1.ConditionTrue)
	}
	b.delivered(t, b.linuxFile, b.windowsFile)
}

// delivered is what makes the rest worth something: the secrets have come all the way.
func (b *bed) delivered(t *testing.T, linux, windows string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(b.linux.Root(), linuxFile))
	must(t, err)
	path, err := b.windows.Path(windowsFile)
	must(t, err)
	onWindows, err := os.ReadFile(path)
	must(t, err)
	if string(content) != linux || string(onWindows) != windows {
		t.Error("the files do not hold what their Secret holds")
	}
}

func (b *bed) changed(t *testing.T) {
	b.setContents(t, map[string]string{"linux": b.newLinuxFile, "windows": b.newWindowsFile})
	eventually(t, func() bool {
		content, _ := os.ReadFile(filepath.Join(b.linux.Root(), linuxFile))
		path, err := b.windows.Path(windowsFile)
		must(t, err)
		onWindows, _ := os.ReadFile(path)
		return string(content) == b.newLinuxFile && string(onWindows) == b.newWindowsFile
	})
	b.awaitService(t, "linux-file", metav1.ConditionTrue)
	b.awaitService(t, "windows-file", metav1.ConditionTrue)
}

func eventually(t *testing.T, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s", patience)
		}
	}
}

// failed: a job that cannot be done, and jobs that print their secret in all forms before they fail.
func (b *bed) failed(t *testing.T) {
	b.declare(t, "linux-file", b.files("nobody-of-this-name")["linux-file"])
	b.setContents(t, nil)
	b.awaitFailure(t, "linux-file")
	for name, spec := range b.scripts(failing) {
		b.declare(t, name, spec)
	}
	for name := range b.scripts(failing) {
		b.tellsOfFailure(t, b.awaitFailure(t, name))
	}
}

// awaitFailure waits until a job of a service has failed.
func (b *bed) awaitFailure(t *testing.T, name string) *v1alpha1.ExternalService {
	t.Helper()
	service := &v1alpha1.ExternalService{}
	eventually(t, func() bool {
		must(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, service))
		return slices.ContainsFunc(service.Status.History, func(r v1alpha1.ExecutionRecord) bool { return r.Outcome == v1alpha1.ExecutionFailed })
	})
	return service
}

// tellsOfFailure: the last words of a script are shown, with something taken out of them.
func (b *bed) tellsOfFailure(t *testing.T, service *v1alpha1.ExternalService) {
	t.Helper()
	shown := fmt.Sprint(service.Status.Conditions, service.Status.History)
	if !strings.Contains(shown, "[redacted]") {
		t.Errorf("%s: nothing of what was printed is shown", service.Name)
	}
}

func (b *bed) repaired(t *testing.T) {
	b.declare(t, "linux-file", b.files("root")["linux-file"])
	b.setContents(t, map[string]string{"linux-env": b.newLinuxEnv})
	for name, spec := range b.scripts(working) {
		b.declare(t, name, spec)
	}
	for _, name := range []string{"linux-file", "linux-script", "windows-script"} {
		b.awaitService(t, name, metav1.ConditionTrue)
	}
}

// deleted: after it the hosts hold nothing at all, so nothing is left out of the search any more.
func (b *bed) deleted(t *testing.T) {
	services := &v1alpha1.ExternalServiceList{}
	must(t, b.client.List(t.Context(), services, client.InNamespace(namespace)))
	for _, service := range services.Items {
		must(t, b.client.Delete(t.Context(), &service))
	}
	eventually(t, func() bool {
		must(t, b.client.List(t.Context(), services, client.InNamespace(namespace)))
		return len(services.Items) == 0
	})
	for _, name := range []string{"linux", "windows"} {
		host := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		must(t, b.client.Delete(t.Context(), host))
		eventually(t, func() bool {
			return apierrors.IsNotFound(b.client.Get(t.Context(), client.ObjectKeyFromObject(host), host))
		})
	}
}

func (b *bed) scanLog(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(b.operator.Log())
	must(t, err)
	if !strings.Contains(string(content), `"level":"debug"`) && !strings.Contains(string(content), `"level":"Level(-`) {
		t.Error("the operator's log is not at its highest level")
	}
	b.scanner.scan("log", b.operator.Log(), content)
}

// scanHosts looks at all files that were written, except those that hold a secret
// because it was asked for, and, while services are declared, the state directory,
// which is for administrators only and holds the environment of scripts on Windows.
func (b *bed) scanHosts(t *testing.T) {
	t.Helper()
	drive, err := b.windows.Path(`C:\`)
	must(t, err)
	for sink, dir := range map[string]string{"Linux disk": b.linux.Root(), "Windows disk": drive} {
		must(t, b.scanner.scanFiles(sink, dir, b.began, func(path string) bool { return b.mayHold(dir, path) }))
	}
	b.scanLinux(t, "Linux journal", "journalctl --sync; journalctl --no-pager -o verbose")
	b.scanLinux(t, "Linux memory disks", "find /run /tmp /dev/shm -xdev -type f -size -1024k -exec cat {} + 2>/dev/null; find /run /tmp /dev/shm")
}

func (b *bed) scanLinux(t *testing.T, sink, script string) {
	t.Helper()
	out, err := b.linux.Run(t.Context(), "/bin/sh", "-c", script)
	must(t, err)
	b.scanner.scan(sink, sink, out)
}

// jobScript is a job on its way: it removes its script, which only root may read, when it begins.
var jobScript = regexp.MustCompile(`^var/lib/isthmus/jobs/[a-z0-9-]+/script\.[a-z0-9]+$`)

func (b *bed) mayHold(dir, path string) bool {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return false
	}
	name = strings.ToLower(name)
	services := &v1alpha1.ExternalServiceList{}
	if b.client.List(context.Background(), services) == nil && len(services.Items) == 0 {
		return false
	}
	return name == "etc/canary.conf" || name == "canary/canary.conf" || strings.HasPrefix(name, "programdata/isthmus/") ||
		jobScript.MatchString(name)
}

// scanMetrics reads the metrics as a scraper with its ServiceAccount does.
func (b *bed) scanMetrics(t *testing.T) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // its certificate is made at its start
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+b.metrics+"/metrics", nil)
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+b.token(t))
	response, err := (&http.Client{Transport: transport}).Do(request)
	must(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK || !strings.Contains(string(content), "isthmus_") {
		t.Fatalf("no metrics: %s", response.Status)
	}
	b.scanner.scan("metrics", "metrics", content)
}

func (b *bed) token(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "scraper"}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "canary-scraper"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "isthmus-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account.Name}},
	}
	must(t, client.IgnoreAlreadyExists(b.client.Create(ctx, account)))
	must(t, client.IgnoreAlreadyExists(b.client.Create(ctx, binding)))
	set, err := kubernetes.NewForConfig(b.plane.AdminConfig())
	must(t, err)
	token, err := set.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	return token.Status.Token
}

// canFail leaks a secret into each place, in one form or another, and wants it found.
func (b *bed) canFail(t *testing.T) {
	secret := b.newLinuxEnv
	encoded := base64.StdEncoding.EncodeToString([]byte("Basic user:" + secret))
	drive, err := b.windows.Path(`C:\`)
	must(t, err)
	for sink, leak := range map[string]func() func(){
		"log": func() func() { must(t, appendTo(b.operator.Log(), encoded)); return func() { b.scanLog(t) } },
		"Linux disk": func() func() {
			must(t, appendTo(filepath.Join(b.linux.Root(), "var/leak"), encoded))
			return func() { b.scanHosts(t) }
		},
		"Windows disk": func() func() {
			must(t, appendTo(filepath.Join(drive, "leak.txt"), secret))
			return func() { b.scanHosts(t) }
		},
		"Linux journal": func() func() {
			_, err := b.linux.RunInput(t.Context(), strings.NewReader(encoded), "systemd-cat")
			must(t, err)
			return func() { b.scanHosts(t) }
		},
		"Linux memory disks": func() func() {
			_, err := b.linux.RunInput(t.Context(), strings.NewReader(encoded), "tee", "/run/leak")
			must(t, err)
			return func() { b.scanHosts(t) }
		},
		"objects": func() func() {
			leaky := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "leaky"}, Data: map[string]string{"x": secret}}
			must(t, b.client.Create(t.Context(), leaky))
			return func() { b.scanObjects(t) }
		},
		"metrics": func() func() { return func() { b.scanner.scan("metrics", "planted", []byte(`x{y="`+encoded+`"} 1`)) } },
		"cmdline": func() func() { return b.leakyProcess(t, nil, "leak-"+encoded) },
		"environ": func() func() { return b.leakyProcess(t, []string{"LEAK=" + secret}, "leak") },
	} {
		b.scanner.take(sink)
		leak()()
		if hits := b.scanner.take(sink); len(hits) == 0 {
			t.Errorf("a secret in %s is not found", sink)
		}
	}
}

// leakyProcess runs a program inside the Linux host that has something to hide, for a fifth of a second.
func (b *bed) leakyProcess(t *testing.T, environment []string, argument string) func() {
	t.Helper()
	command, err := b.linux.Command(t.Context(), append(append([]string{"env"}, environment...), "sh", "-c", "sleep 0.2", argument)...)
	must(t, err)
	return func() {
		watched := watchProcesses(b.scanner)
		must(t, command.Run())
		watched.end()
	}
}

func appendTo(path, text string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(text + "\n")
	return err
}

// showLog prints the end of the operator's log, unless that is where a secret is.
func (b *bed) showLog(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(b.operator.Log())
	if err != nil {
		return
	}
	b.scanner.take("shown")
	b.scanner.scan("shown", "", content)
	if len(b.scanner.take("shown")) > 0 {
		t.Log("the operator's log holds a secret and is not shown")
		return
	}
	lines := strings.Split(string(content), "\n")
	t.Log(strings.Join(lines[max(0, len(lines)-60):], "\n"))
}
