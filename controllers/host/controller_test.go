package host_test

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	testclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/host"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	pinnedKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRxYJ0t23jttl9UwJhUL1KLwxv31duN9vr3P7Iyfuby"
	shownKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIId5dll8S/AuDvPwOfVvgN+TJxDP9Ejzc6b/8/T2yH8V"
)

// bench is a Host, a reconciler and what is around them.
type bench struct {
	ctx      context.Context
	key      types.NamespacedName
	client   *indexed
	fleet    *fleettest.Fleet
	clock    *testclock.FakeClock
	recorder *events.FakeRecorder
	host     *host.Reconciler
}

func newBench(ctx context.Context) *bench {
	b := &bench{
		ctx: ctx, key: types.NamespacedName{Namespace: namespace(ctx), Name: "web"},
		client: &indexed{Client: live}, fleet: fleettest.NewFleet(GinkgoTB()),
		clock: testclock.NewFakeClock(time.Now()), recorder: events.NewFakeRecorder(100),
	}
	b.host = &host.Reconciler{
		Client: b.client, Live: live, Credentials: credential.Reader{Reader: live}, Fleet: b.fleet, Recorder: b.recorder, Clock: b.clock,
	}
	return b
}

func (b *bench) secret(data map[string]string) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: "web-ssh"}}
	_, err := controllerutil.CreateOrUpdate(b.ctx, live, secret, func() error {
		secret.StringData = data
		return nil
	})
	Expect(err).NotTo(HaveOccurred())
}

func (b *bench) create(change ...func(*v1alpha1.Host)) {
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: b.key.Name}}
	h.Spec = v1alpha1.HostSpec{
		Address: "192.0.2.10", OS: v1alpha1.Linux, CredentialsRef: v1alpha1.LocalReference{Name: "web-ssh"},
		SSH: &v1alpha1.SSHTransport{User: "deploy", HostKeys: []string{pinnedKey}},
	}
	for _, c := range change {
		c(h)
	}
	Expect(live.Create(b.ctx, h)).To(Succeed())
}

func (b *bench) get() *v1alpha1.Host {
	h := &v1alpha1.Host{}
	Expect(live.Get(b.ctx, b.key, h)).To(Succeed())
	return h
}

func (b *bench) update(change func(*v1alpha1.Host)) {
	h := b.get()
	change(h)
	Expect(live.Update(b.ctx, h)).To(Succeed())
}

func (b *bench) pass() ctrl.Result {
	GinkgoHelper()
	result, err := b.host.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key})
	Expect(err).NotTo(HaveOccurred())
	h := &v1alpha1.Host{}
	if live.Get(b.ctx, b.key, h) == nil && len(h.Status.Conditions) > 0 {
		Expect(condition.Check(h.Status.Conditions)).To(Succeed())
	}
	return result
}

// silent makes a pass and expects it to write nothing.
func (b *bench) silent() ctrl.Result {
	GinkgoHelper()
	before := b.client.writes
	result := b.pass()
	Expect(b.client.writes).To(Equal(before), "a pass that finds nothing new writes nothing")
	Expect(b.told()).To(BeEmpty())
	return result
}

func (b *bench) link(status fleet.HostStatus) { b.fleet.SetHost(b.key, status) }

func (b *bench) told() []string {
	var told []string
	for {
		select {
		case e := <-b.recorder.Events:
			told = append(told, e)
		default:
			return told
		}
	}
}

func (b *bench) condition(conditionType string) string {
	GinkgoHelper()
	c := condition.Get(b.get().Status.Conditions, conditionType)
	if c == nil {
		return "absent"
	}
	return fmt.Sprintf("%s %s", c.Status, c.Reason)
}

func (b *bench) message() string {
	return condition.Get(b.get().Status.Conditions, v1alpha1.ReadyCondition).Message
}

func (b *bench) endpoint() fleet.Endpoint {
	GinkgoHelper()
	endpoint, ok := b.fleet.Endpoint(b.key)
	Expect(ok).To(BeTrue(), "the host is configured")
	return endpoint
}

func service(namespace, name string, ref v1alpha1.HostReference) *v1alpha1.ExternalService {
	content := "x"
	return &v1alpha1.ExternalService{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ExternalServiceSpec{
			HostRef: ref, Files: []v1alpha1.File{{Path: "/etc/x", Content: &content}},
		},
	}
}

var _ = Describe("A Host", func() {
	var b *bench
	BeforeEach(func() {
		b = newBench(context.Background()) // a node's own context ends with the node
		b.secret(map[string]string{"password": "canary-4711"})
	})

	It("is connected, described, and silent afterwards", func() {
		b.create()
		b.pass()
		Expect(b.condition("Ready")).To(Equal("Unknown Connecting"))
		Expect(b.condition("Reconciling")).To(Equal("True Connecting"))
		Expect(b.get().Finalizers).To(ContainElement(v1alpha1.Finalizer))
		Expect(b.get().Status.ObservedGeneration).To(BeEquivalentTo(1))
		Expect(b.endpoint().HostKeys).To(Equal([]string{pinnedKey}))
		Expect(b.endpoint().Credentials.Password).To(Equal("canary-4711"))
		Expect(b.told()).To(BeEmpty())

		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now(), Facts: &machine.Facts{
			Hostname: "web", OSName: "Debian GNU/Linux 12 (bookworm)", CPUs: 4, MemoryBytes: 8 << 30, BootID: "1",
		}})
		b.pass()
		status := b.get().Status
		Expect(b.condition("Ready")).To(Equal("True Connected"))
		Expect(b.condition("Reachable")).To(Equal("True Connected"))
		Expect(b.condition("CredentialsAccepted")).To(Equal("True Connected"))
		Expect(b.condition("IdentityTrusted")).To(Equal("True Verified"))
		Expect(status.Via).To(Equal("ssh deploy@:22"))
		Expect(status.Facts.Memory).To(Equal("8Gi"))
		Expect(status.LastSeenTime).To(BeNil())
		Expect(b.told()).To(ConsistOf(ContainSubstring("Normal Connected")))

		b.clock.Step(time.Hour)
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now(), Facts: &machine.Facts{
			Hostname: "web", OSName: "Debian GNU/Linux 12 (bookworm)", CPUs: 4, MemoryBytes: 8 << 30, BootID: "1",
		}})
		Expect(b.silent().RequeueAfter).To(BeNumerically(">=", 10*time.Minute), "the Secret is read again now and then")
		versions := map[string]bool{}
		for _, endpoint := range b.fleet.Configured() {
			versions[endpoint.Version] = true
		}
		Expect(versions).To(HaveLen(1), "an unchanged Host is one endpoint")
	})

	It("stays as it was while a new operator connects", func() {
		b.create()
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		b.told()
		b.fleet.Reset()
		b.silent()
		Expect(b.condition("Ready")).To(Equal("True Connected"))
	})

	It("becomes unknown, and false after the grace period", func() {
		b.create()
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		b.told()
		seen := b.clock.Now()
		b.clock.Step(20 * time.Second)
		lost := fleet.HostStatus{State: fleet.Unreachable, LastSeen: seen, Since: b.clock.Now(), Message: "reach 192.0.2.10: no route to host"}
		b.link(lost)
		result := b.pass()
		Expect(b.condition("Ready")).To(Equal("Unknown Unreachable"))
		Expect(b.condition("Reachable")).To(Equal("Unknown Unreachable"))
		Expect(b.condition("CredentialsAccepted")).To(Equal("True Connected"), "what was learnt stays")
		Expect(b.get().Status.LastSeenTime.Time).To(BeTemporally("~", seen, time.Second))
		Expect(result.RequeueAfter).To(BeNumerically("~", 31500*time.Millisecond, 1500*time.Millisecond), "what is left of 50s")
		Expect(b.told()).To(ConsistOf(ContainSubstring("Normal Unreachable")))
		b.silent()

		b.clock.Step(31 * time.Second)
		b.pass()
		Expect(b.condition("Ready")).To(Equal("False Unreachable"))
		Expect(b.condition("Stalled")).To(Equal("absent"))
		Expect(b.condition("Reachable")).To(Equal("False Unreachable"))
		Expect(b.message()).To(ContainSubstring("no route to host"))
		Expect(b.told()).To(ConsistOf(ContainSubstring("Warning Unreachable")))
		b.silent()

		By("staying false for an operator that starts anew")
		lost.LastSeen, lost.Since = time.Time{}, b.clock.Now()
		b.link(lost)
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // Conditions count whole seconds.
		b.silent()

		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("True Connected"))
		Expect(b.get().Status.LastSeenTime).To(BeNil())
	})

	It("stops for refused credentials and takes the corrected ones at once", func() {
		b.create()
		b.pass()
		refused := b.endpoint()
		b.link(fleet.HostStatus{
			State: fleet.CredentialsRefused, Version: refused.Version,
			Message: `the host refused user "deploy" (password): check the Secret and the account on the host`,
		})
		Expect(b.pass().RequeueAfter).To(BeNumerically("<=", 5500*time.Millisecond))
		Expect(b.condition("Ready")).To(Equal("False CredentialsRefused"))
		Expect(b.condition("Stalled")).To(Equal("True CredentialsRefused"))
		Expect(b.condition("CredentialsAccepted")).To(Equal("False CredentialsRefused"))
		Expect(b.condition("Reachable")).To(Equal("True Connected"))
		Expect(b.message()).To(ContainSubstring("correct Secret " + b.key.Namespace + "/web-ssh"))
		Expect(b.told()).To(ConsistOf(ContainSubstring("Warning CredentialsRefused")))
		b.silent()

		By("not minding a label of the Secret")
		secret := &corev1.Secret{}
		Expect(live.Get(b.ctx, types.NamespacedName{Namespace: b.key.Namespace, Name: "web-ssh"}, secret)).To(Succeed())
		secret.Labels = map[string]string{"seen": "yes"}
		Expect(live.Update(b.ctx, secret)).To(Succeed())
		b.pass() // Its new revision is noted.
		b.silent()
		Expect(b.endpoint().Version).To(Equal(refused.Version))

		b.secret(map[string]string{"password": "right"})
		b.silent() // The outcome is awaited.
		Expect(b.endpoint().Version).NotTo(Equal(refused.Version))
		Expect(b.endpoint().Credentials.Password).To(Equal("right"))
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("True Connected"))
		Expect(b.condition("Stalled")).To(Equal("absent"))
	})

	It("does not try refused credentials again when the operator starts anew", func() {
		b.create()
		b.pass()
		const message = `the host refused user "deploy" (password): check the Secret and the account on the host`
		b.link(fleet.HostStatus{State: fleet.CredentialsRefused, Version: b.endpoint().Version, Message: message})
		b.pass()
		Expect(b.get().Status.RefusedLogin).To(HaveLen(64))

		By("with the same Secret")
		b.fleet.Reset()
		b.pass()
		Expect(b.endpoint().Refused).To(Equal(message))

		By("unless a person asks")
		b.fleet.Reset()
		b.update(func(h *v1alpha1.Host) {
			h.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "1"}
		})
		b.pass()
		Expect(b.endpoint().Refused).To(BeEmpty())

		By("or the Secret changes")
		b.fleet.Reset()
		b.secret(map[string]string{"password": "right"})
		b.pass()
		Expect(b.endpoint().Refused).To(BeEmpty())
		b.link(fleet.HostStatus{State: fleet.Connected, Version: b.endpoint().Version, LastSeen: b.clock.Now()})
		b.pass()
		Expect(b.get().Status.RefusedLogin).To(BeEmpty())
	})

	It("says what is missing in the Secret", func() {
		b.create(func(h *v1alpha1.Host) { h.Spec.CredentialsRef.Name = "other" })
		Expect(b.pass().RequeueAfter).To(BeNumerically("<=", 5500*time.Millisecond))
		Expect(b.condition("Ready")).To(Equal("False CredentialsInvalid"))
		Expect(b.message()).To(ContainSubstring("Secret %s/other does not exist", b.key.Namespace))
		_, configured := b.fleet.Endpoint(b.key)
		Expect(configured).To(BeFalse())
		b.told()
		b.silent()

		b.update(func(h *v1alpha1.Host) { h.Spec.CredentialsRef.Name, h.Spec.SSH.User = "web-ssh", "" })
		b.pass()
		Expect(b.message()).To(ContainSubstring(`has no key "username", and spec.ssh.user is not set`))
	})

	It("pins the first key before it sends a credential", func() {
		b.create(func(h *v1alpha1.Host) {
			h.Spec.SSH.HostKeys, h.Spec.SSH.TrustOnFirstUse = nil, true
		})
		b.pass()
		first := b.endpoint()
		Expect(first.HostKeys).To(BeEmpty())
		b.link(fleet.HostStatus{
			State: fleet.Untrusted, Unpinned: true, Version: first.Version, SeenKey: shownKey, Fingerprint: "SHA256:shown",
		})
		b.pass()
		Expect(b.get().Status.HostKey).To(Equal(shownKey))
		Expect(b.get().Status.HostKeyFingerprint).To(Equal("SHA256:shown"))
		Expect(b.endpoint().HostKeys).To(Equal([]string{shownKey}))
		Expect(b.told()).To(ContainElement(ContainSubstring("PinnedOnFirstUse")))
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		Expect(b.condition("IdentityTrusted")).To(Equal("True PinnedOnFirstUse"))

		By("refusing another key afterwards")
		b.link(fleet.HostStatus{
			State: fleet.Untrusted, Version: b.endpoint().Version, SeenKey: pinnedKey, Fingerprint: "SHA256:other",
			Message: "the host's identity (SHA256:other) is not the pinned one; no credential was sent",
		})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("False IdentityMismatch"))
		Expect(b.condition("IdentityTrusted")).To(Equal("False IdentityMismatch"))
		Expect(b.message()).To(ContainSubstring("remove status.hostKey"))
		Expect(b.get().Status.HostKey).To(Equal(shownKey))
		Expect(b.endpoint().HostKeys).To(Equal([]string{shownKey}))
	})

	It("knows the key that it pinned before its cache does", func() {
		b.create(func(h *v1alpha1.Host) {
			h.Spec.SSH.HostKeys, h.Spec.SSH.TrustOnFirstUse = nil, true
		})
		b.pass()
		b.host.Client = behind{Client: b.client, host: b.get()}
		b.link(fleet.HostStatus{State: fleet.Untrusted, Unpinned: true, Version: b.endpoint().Version, SeenKey: shownKey})
		b.pass()
		Expect(b.endpoint().HostKeys).To(Equal([]string{shownKey}))
		b.pass()
		Expect(b.endpoint().HostKeys).To(Equal([]string{shownKey}), "going back would make one more login attempt")
	})

	It("does not pin when the status cannot be written", func() {
		b.create(func(h *v1alpha1.Host) {
			h.Spec.SSH.HostKeys, h.Spec.SSH.TrustOnFirstUse = nil, true
		})
		b.pass()
		b.link(fleet.HostStatus{State: fleet.Untrusted, Unpinned: true, SeenKey: shownKey})
		b.client.Client = stale{live}
		b.pass()
		Expect(b.endpoint().HostKeys).To(BeEmpty(), "nothing is sent to a key that is not written down")
	})

	It("does not trust an unpinned key unasked", func() {
		b.create()
		b.link(fleet.HostStatus{State: fleet.Untrusted, Unpinned: true, SeenKey: shownKey, Message: "the host shows key SHA256:shown and none is pinned in the Host"})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("False IdentityUnpinned"))
		Expect(b.get().Status.HostKey).To(BeEmpty())
	})

	It("says why an address is refused, and is suspended, and in maintenance", func() {
		b.create()
		b.link(fleet.HostStatus{State: fleet.AddressRefused, Message: "address 127.0.0.1 is loopback"})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("False AddressRefused"))
		Expect(b.condition("Stalled")).To(Equal("True AddressRefused"))

		b.update(func(h *v1alpha1.Host) { h.Spec.Suspend = true })
		b.link(fleet.HostStatus{State: fleet.Suspended})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("Unknown Suspended"))
		Expect(b.condition("Stalled")).To(Equal("absent"))

		b.update(func(h *v1alpha1.Host) {
			h.Spec.Suspend = false
			h.Spec.Maintenance = v1alpha1.Maintenance{Enabled: true, Reason: "new disk"}
		})
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		Expect(b.condition("Ready")).To(Equal("True Connected"))
		Expect(b.message()).To(ContainSubstring("maintenance and is not changed: new disk"))
	})

	It("does not call a changed spec ready before it was tried", func() {
		b.create()
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		b.pass()
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now(), Version: b.endpoint().Version})
		b.update(func(h *v1alpha1.Host) { h.Spec.Address = "192.0.2.11" })
		b.pass()
		Expect(b.condition("Ready")).To(Equal("Unknown Connecting"))
	})

	It("hands a reconcile request on and answers it", func() {
		b.create()
		b.pass()
		b.update(func(h *v1alpha1.Host) {
			h.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "one"}
		})
		b.pass()
		Expect(b.endpoint().RequestedAt).To(Equal("one"))
		Expect(b.get().Status.LastHandledReconcileAt).To(BeEmpty(), "the host was not looked at yet")
		b.link(fleet.HostStatus{State: fleet.Unreachable, Message: "no route to host", Answered: "one"})
		b.pass()
		Expect(b.get().Status.LastHandledReconcileAt).To(Equal("one"))
	})

	It("answers a reconcile request at once where no look can be made", func() {
		b.create()
		b.pass()
		b.update(func(h *v1alpha1.Host) {
			h.Spec.Suspend = true
			h.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "two"}
		})
		b.pass()
		Expect(b.get().Status.LastHandledReconcileAt).To(Equal("two"))
	})

	It("waits with its deletion for its users, and says who they are", func() {
		b.create()
		b.link(fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()})
		elsewhere := namespace(b.ctx)
		near := service(b.key.Namespace, "orders", v1alpha1.HostReference{Name: "web"})
		far := service(elsewhere, "ledger", v1alpha1.HostReference{Name: "web", Namespace: b.key.Namespace})
		other := service(elsewhere, "other", v1alpha1.HostReference{Name: "web"})
		for _, s := range []client.Object{near, far, other} {
			Expect(live.Create(b.ctx, s)).To(Succeed())
		}
		b.pass()
		Expect(b.get().Status.Users).To(BeEquivalentTo(2))
		b.told()
		Expect(live.Delete(b.ctx, b.get())).To(Succeed())
		b.pass()
		Expect(b.condition("Ready")).To(Equal("Unknown InUse"))
		Expect(b.message()).To(And(ContainSubstring(b.key.Namespace+"/orders"), ContainSubstring(elsewhere+"/ledger")))
		Expect(b.told()).To(ConsistOf(ContainSubstring("Normal InUse")))
		Expect(b.fleet.Removed()).To(BeEmpty(), "users need the link to clear up")
		b.silent()

		Expect(live.Delete(b.ctx, near)).To(Succeed())
		Expect(live.Delete(b.ctx, far)).To(Succeed())
		b.pass()
		Expect(apierrors.IsNotFound(live.Get(b.ctx, b.key, &v1alpha1.Host{}))).To(BeTrue())
		Expect(b.fleet.Removed()).To(ContainElement(b.key))
		b.pass()
	})

	It("is deleted without credentials", func() {
		b.create(func(h *v1alpha1.Host) { h.Spec.CredentialsRef.Name = "missing" })
		b.pass()
		Expect(live.Delete(b.ctx, b.get())).To(Succeed())
		b.pass()
		Expect(apierrors.IsNotFound(live.Get(b.ctx, b.key, &v1alpha1.Host{}))).To(BeTrue())
	})

	It("shows no secret", func() {
		b.create()
		b.pass()
		Expect(fmt.Sprintf("%+v %#v", b.endpoint(), b.endpoint())).NotTo(ContainSubstring("canary"))
		Expect(fmt.Sprintf("%v %v", b.get(), b.told())).NotTo(ContainSubstring("canary"))
	})
})

// stale is a client whose reads are older than what others wrote.
type stale struct{ client.Client }

func (s stale) Status() client.SubResourceWriter { return staleStatus{s.Client.Status()} }

type staleStatus struct{ client.SubResourceWriter }

func (staleStatus) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("hosts").GroupResource(), "web", nil)
}

// behind is a client whose cache does not follow.
type behind struct {
	client.Client
	host *v1alpha1.Host
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if h, ok := object.(*v1alpha1.Host); ok {
		b.host.DeepCopyInto(h)
		return nil
	}
	return b.Client.Get(ctx, key, object, options...)
}
