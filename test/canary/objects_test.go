package canary

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
)

// sudo is what the Linux host asks of who becomes root.
const sudo = linuxhost.WithPassword

const (
	linuxFile   = "/etc/canary.conf"
	windowsFile = `C:\Canary\canary.conf`

	patience = 2 * time.Minute
)

func (b *bed) secret(ctx context.Context, t *testing.T, name string, data map[string]string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	err := b.client.Get(ctx, client.ObjectKeyFromObject(secret), secret)
	secret.StringData = data
	if err == nil {
		must(t, b.client.Update(ctx, secret))
		return
	}
	must(t, b.client.Create(ctx, secret))
}

func (b *bed) linuxCredentials() map[string]string {
	return map[string]string{"ssh-privatekey": string(b.key), "passphrase": b.passphrase, "become-password": b.become}
}

// declareHosts has every secret in its Secret, and the two hosts in the cluster.
func (b *bed) declareHosts(t *testing.T, winrmPassword string) {
	t.Helper()
	ctx := t.Context()
	b.secret(ctx, t, "linux", b.linuxCredentials())
	b.secret(ctx, t, "windows", map[string]string{"username": "isthmus", "password": winrmPassword})
	b.secret(ctx, t, "contents", map[string]string{
		"linux": b.linuxFile, "windows": b.windowsFile, "linux-env": b.linuxEnv, "windows-env": b.winEnv,
	})
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ca"}, Data: map[string]string{"ca.crt": string(b.windows.CA())}}
	must(t, b.client.Create(ctx, ca))
	keys, err := b.linux.HostKeys(ctx)
	must(t, err)
	probe := v1alpha1.HostProbe{Interval: &metav1.Duration{Duration: 2 * time.Second}}
	must(t, b.client.Create(ctx, &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "linux"},
		Spec: v1alpha1.HostSpec{
			Address: b.linux.Address().String(), OS: "Linux", CredentialsRef: v1alpha1.LocalReference{Name: "linux"}, Probe: probe,
			SSH: &v1alpha1.SSHTransport{User: linuxUser, HostKeys: keys, Become: &v1alpha1.Become{Method: v1alpha1.BecomeSudo}},
		},
	}))
	must(t, b.client.Create(ctx, &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "windows"},
		Spec: v1alpha1.HostSpec{
			Address: b.windows.Address(), OS: "Windows", CredentialsRef: v1alpha1.LocalReference{Name: "windows"}, Probe: probe,
			WinRM: &v1alpha1.WinRMTransport{
				Port: int32(b.windows.Port()), Authentication: v1alpha1.NTLM, CARef: &v1alpha1.CAReference{Name: "ca"},
			},
		},
	}))
}

func contentOf(key string) *v1alpha1.ContentSource {
	return &v1alpha1.ContentSource{SecretKeyRef: &v1alpha1.KeyReference{Name: "contents", Key: key}}
}

// declare makes an ExternalService, or gives the one that is there another spec.
func (b *bed) declare(t *testing.T, name string, spec v1alpha1.ExternalServiceSpec) {
	t.Helper()
	spec.Interval = &metav1.Duration{Duration: 2 * time.Second}
	existing := &v1alpha1.ExternalService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	err := b.client.Get(t.Context(), client.ObjectKeyFromObject(existing), existing)
	if err != nil {
		existing.Spec = spec
		must(t, b.client.Create(t.Context(), existing))
		return
	}
	patch := client.MergeFrom(existing.DeepCopy())
	existing.Spec = spec
	must(t, b.client.Patch(t.Context(), existing, patch))
}

func (b *bed) files(owner string) map[string]v1alpha1.ExternalServiceSpec {
	return map[string]v1alpha1.ExternalServiceSpec{
		"linux-file": {
			HostRef: v1alpha1.HostReference{Name: "linux"},
			Files:   []v1alpha1.File{{Path: linuxFile, ContentFrom: contentOf("linux"), Mode: "0600", Owner: owner}},
		},
		"windows-file": {
			HostRef: v1alpha1.HostReference{Name: "windows"},
			Files:   []v1alpha1.File{{Path: windowsFile, ContentFrom: contentOf("windows")}},
		},
	}
}

// tokenVariable is what the scripts find their secret in.
const tokenVariable = "TOKEN"

func environment(key string) []v1alpha1.EnvironmentVariable {
	return []v1alpha1.EnvironmentVariable{{Name: tokenVariable, SecretKeyRef: &v1alpha1.KeyReference{Name: "contents", Key: key}}}
}

// scripts see the token, and print it in whatever forms their shells can make of it.
func (b *bed) scripts(apply map[string]string) map[string]v1alpha1.ExternalServiceSpec {
	return map[string]v1alpha1.ExternalServiceSpec{
		"linux-script": {
			HostRef: v1alpha1.HostReference{Name: "linux"},
			Script: &v1alpha1.Script{
				Observe: "echo \"it is $TOKEN\"\n[ -f /var/tmp/canary-done ] && exit 0\nexit 1\n",
				Apply:   apply["linux"], Environment: environment("linux-env"), Idempotent: true,
				Remove: "rm -f /var/tmp/canary-done\n",
			},
		},
		"windows-script": {
			HostRef: v1alpha1.HostReference{Name: "windows"},
			Script: &v1alpha1.Script{
				Observe: "@echo off\nset TOKEN\nif exist C:\\canary-done exit 0\nexit 1\n",
				Apply:   apply["windows"], Environment: environment("windows-env"), Idempotent: true,
				Remove: "@echo off\ndel C:\\canary-done\n",
			},
		},
	}
}

const (
	chatty = "printf '%s\\n' \"$TOKEN\"\nprintf %s \"$TOKEN\" | base64\nprintf 'xy%s' \"$TOKEN\" | base64 -w 0\necho\n" +
		"printf '{\"token\": \"%s\"}\\n' \"$(printf %s \"$TOKEN\" | sed 's/\"/\\\\\"/g')\"\n" +
		"printf %s \"$TOKEN\" | sed 's/./&\\x0/g' | base64 -w 0\necho\nprintf '%s\\n' \"$TOKEN\" >&2\n"
	chattyOnWindows = "@echo off\nset TOKEN\n"
)

var (
	failing = map[string]string{"linux": chatty + "exit 9\n", "windows": chattyOnWindows + "exit 9\n"}
	working = map[string]string{"linux": chatty + "touch /var/tmp/canary-done\n", "windows": chattyOnWindows + "echo done>C:\\canary-done\n"}
)

// await waits for a condition of an object.
func (b *bed) await(t *testing.T, object client.Object, conditions func() []metav1.Condition, kind string, status metav1.ConditionStatus) {
	t.Helper()
	var last *metav1.Condition
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		must(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(object), object))
		last = meta.FindStatusCondition(conditions(), kind)
		if last != nil && last.Status == status && last.ObservedGeneration == object.GetGeneration() {
			return
		}
	}
	t.Fatalf("%s is not %s=%s: %+v", object.GetName(), kind, status, last)
}

func (b *bed) awaitHost(t *testing.T, name, kind string, status metav1.ConditionStatus) {
	t.Helper()
	host := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	b.await(t, host, func() []metav1.Condition { return host.Status.Conditions }, kind, status)
}

// ask has the operator read the Secret of a connected Host now, and not within ten minutes.
func (b *bed) ask(t *testing.T, name string) {
	t.Helper()
	host := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ReconcileRequestAnnotation, time.Now().Format(time.RFC3339Nano))
	must(t, b.client.Patch(t.Context(), host, client.RawPatch(types.MergePatchType, []byte(patch))))
}

func (b *bed) awaitService(t *testing.T, name string, status metav1.ConditionStatus) {
	t.Helper()
	service := &v1alpha1.ExternalService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	b.await(t, service, func() []metav1.Condition { return service.Status.Conditions }, v1alpha1.ReadyCondition, status)
}

// scanObjects looks at all objects that are not Secrets, events among them, and at the metrics.
func (b *bed) scanObjects(t *testing.T) {
	t.Helper()
	out := b.kubectl(t.Context(), t, "api-resources", "--verbs=list", "-o", "name")
	var kinds []string
	for kind := range strings.FieldsSeq(string(out)) {
		if kind != "secrets" {
			kinds = append(kinds, kind)
		}
	}
	all := b.kubectl(t.Context(), t, "get", strings.Join(kinds, ","), "--all-namespaces", "--show-managed-fields", "-o", "json")
	list := struct{ Items []json.RawMessage }{}
	must(t, json.Unmarshal(all, &list))
	for _, item := range list.Items {
		head := struct {
			Kind     string
			Metadata struct{ Name string }
		}{}
		must(t, json.Unmarshal(item, &head))
		// As it is stored, and as a person reads it.
		var plain any
		must(t, json.Unmarshal(item, &plain))
		b.scanner.scan("objects", head.Kind+" "+head.Metadata.Name, append(item, fmt.Sprint(plain)...))
	}
}

// setContents changes the Secret that holds what is delivered.
func (b *bed) setContents(t *testing.T, change map[string]string) {
	t.Helper()
	data := map[string]string{"linux": b.linuxFile, "windows": b.windowsFile, "linux-env": b.linuxEnv, "windows-env": b.winEnv}
	maps.Copy(data, change)
	b.secret(t.Context(), t, "contents", data)
}
