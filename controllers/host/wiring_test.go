package host_test

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/host"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
)

var _ = Describe("The whole of it: manager, controller, fleet and a host", Ordered, func() {
	var (
		b       *bench
		network = &fleettest.Network{}
		machine = fleettest.NewLinux()
	)
	ready := func(g Gomega) string {
		g.Expect(live.Get(b.ctx, b.key, &v1alpha1.Host{})).To(Succeed())
		return b.condition("Ready")
	}

	BeforeAll(func() {
		b = newBench(context.Background())
		network.Attach("web.example", machine)
		machine.SetHostKey(shownKey)
		machine.SetPassword("right")

		mgr, err := ctrl.NewManager(config, ctrl.Options{
			Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
			Client: client.Options{}, LeaderElection: false,
		})
		Expect(err).NotTo(HaveOccurred())
		hosts := fleet.New(fleet.Options{Connect: network.Connect})
		Expect(mgr.Add(hosts)).To(Succeed())
		reconciler := &host.Reconciler{
			Client: mgr.GetClient(), Credentials: credential.Reader{Reader: mgr.GetAPIReader()}, Fleet: hosts,
			Recorder: mgr.GetEventRecorder("isthmus"), Clock: clock.RealClock{},
		}
		Expect(reconciler.SetupWithManager(b.ctx, mgr)).To(Succeed())
		ctx, cancel := context.WithCancel(b.ctx)
		ended := make(chan error)
		go func() { ended <- mgr.Start(ctx) }()
		DeferCleanup(func() {
			cancel()
			Eventually(ended).WithTimeout(20 * time.Second).Should(Receive(BeNil()))
		})
	})

	It("pins, is refused once, and resumes within five seconds of the corrected Secret", func() {
		b.secret(map[string]string{"username": "deploy", "password": "wrong"})
		b.create(func(h *v1alpha1.Host) {
			h.Spec.Address = "web.example"
			h.Spec.SSH = &v1alpha1.SSHTransport{TrustOnFirstUse: true}
		})
		Eventually(ready).WithTimeout(10 * time.Second).Should(Equal("False CredentialsRefused"))
		Expect(b.get().Status.HostKey).To(Equal(shownKey))
		Consistently(machine.Logins).WithTimeout(7*time.Second).Should(Equal(1), "a wrong password is tried once")
		b.secret(map[string]string{"username": "deploy", "password": "right"})
		Eventually(ready).WithTimeout(7 * time.Second).Should(Equal("True Connected"))
		Expect(machine.Logins()).To(Equal(2))
		Expect(b.get().Status.Facts.InitSystem).To(Equal("systemd"))
	})

	It("counts its users when they come and go", func() {
		users := func() int32 { return b.get().Status.Users }
		orders := service(b.key.Namespace, "orders", v1alpha1.HostReference{Name: "web"})
		Expect(live.Create(b.ctx, orders)).To(Succeed())
		Eventually(users).Should(BeEquivalentTo(1))
		Expect(live.Delete(b.ctx, orders)).To(Succeed())
		Eventually(users).Should(BeEquivalentTo(0))
	})

	It("pins anew when status.hostKey is removed", func() {
		machine.SetHostKey(pinnedKey)
		machine.Drop()
		Expect(live.Patch(b.ctx, b.get(), request("look"))).To(Succeed())
		Eventually(ready).WithTimeout(10 * time.Second).Should(Equal("False IdentityMismatch"))
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"status":{"hostKey":null}}`))
		Expect(live.Status().Patch(b.ctx, b.get(), patch)).To(Succeed())
		Eventually(ready).WithTimeout(10 * time.Second).Should(Equal("True Connected"))
		Expect(b.get().Status.HostKey).To(Equal(pinnedKey))
	})

	It("follows its jump host, and lets the jump host go after it", func() {
		inner := fleettest.NewLinux()
		network.Attach("inner.example", inner)
		behind := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: "inner"}}
		behind.Spec = v1alpha1.HostSpec{
			Address: "inner.example", OS: v1alpha1.Linux, CredentialsRef: v1alpha1.LocalReference{Name: "web-ssh"},
			SSH: &v1alpha1.SSHTransport{HostKeys: []string{pinnedKey}, Jump: &v1alpha1.LocalReference{Name: "bastion"}},
		}
		state := func(name string) func() string {
			return func() string {
				h := &v1alpha1.Host{}
				if live.Get(b.ctx, types.NamespacedName{Namespace: b.key.Namespace, Name: name}, h) != nil {
					return "gone"
				}
				c := condition.Get(h.Status.Conditions, v1alpha1.ReadyCondition)
				if c == nil {
					return "new"
				}
				return string(c.Status) + " " + c.Reason
			}
		}
		Expect(live.Create(b.ctx, behind)).To(Succeed())
		Eventually(state("inner")).WithTimeout(10 * time.Second).Should(Equal("False JumpNotFound"))

		bastion := fleettest.NewLinux()
		bastion.SetPassword("another")
		network.Attach("bastion.example", bastion)
		jump := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: "bastion"}}
		jump.Spec = v1alpha1.HostSpec{
			Address: "bastion.example", OS: v1alpha1.Linux, CredentialsRef: v1alpha1.LocalReference{Name: "web-ssh"},
			SSH: &v1alpha1.SSHTransport{HostKeys: []string{pinnedKey}},
		}
		Expect(live.Create(b.ctx, jump)).To(Succeed())
		Eventually(state("inner")).WithTimeout(10 * time.Second).Should(Equal("False JumpRefused"))
		Expect(inner.Logins()).To(Equal(0))
		Expect(bastion.Logins()).To(Equal(1), "a wrong password of the bastion is tried once, not once for each Host behind it")

		bastion.SetPassword("right")
		Expect(live.Patch(b.ctx, jump, request("cured"))).To(Succeed())
		Eventually(state("inner")).WithTimeout(10 * time.Second).Should(Equal("True Connected"))

		Expect(live.Delete(b.ctx, jump)).To(Succeed())
		Eventually(state("bastion")).WithTimeout(10 * time.Second).Should(Equal("Unknown InUse"))
		Expect(live.Delete(b.ctx, behind)).To(Succeed())
		Eventually(state("inner")).WithTimeout(10 * time.Second).Should(Equal("gone"))
		Eventually(state("bastion")).WithTimeout(10 * time.Second).Should(Equal("gone"))
	})

	It("lets go of the connection with the Host", func() {
		Expect(machine.Sessions()).To(Equal(1))
		Expect(live.Delete(b.ctx, b.get())).To(Succeed())
		Eventually(func() error { return client.IgnoreNotFound(live.Get(b.ctx, b.key, &v1alpha1.Host{})) }).Should(Succeed())
		Eventually(machine.Sessions).Should(Equal(0))
	})
})

// request asks for a look, as kubectl annotate does: whatever the controller writes meanwhile.
func request(value string) client.Patch {
	return client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ReconcileRequestAnnotation, value))
}
