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
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
)

const (
	authorityKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA1CRDaD20GMLkJ8xsru7B/883hhSi7yQIUQuGWtJ34a"
	certificate  = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIGzyAf1rrQCl4kDZAVfZVxDSy4PXiV1rgU0PbIQ9kYHoAAAAIA1CRDaD20GMLkJ8xsru7B/883hhSi7yQIUQuGWtJ34aAAAAAAAAAAAAAAACAAAAAXgAAAAHAAAAA3dlYgAAAAAAAAAA//////////8AAAAAAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIHRxYJ0t23jttl9UwJhUL1KLwxv31duN9vr3P7IyfubyAAAAUwAAAAtzc2gtZWQyNTUxOQAAAED43YEWTJgAA9RI39BIyHbFswoPcC505mb5veVsR06fNkQG08WJiFDq7DdRiGDomJQRQMPnMAlcGTRHz7HLjDQK"
)

var _ = Describe("A Host behind a jump host", func() {
	var b *bench
	BeforeEach(func() {
		b = newBench(context.Background())
		b.secret(map[string]string{"password": "canary-4711"})
	})
	key := func(name string) types.NamespacedName {
		return types.NamespacedName{Namespace: b.key.Namespace, Name: name}
	}
	// hop creates a Host that is jumped through, itself behind another if that is named.
	hop := func(name, jump string, change ...func(*v1alpha1.Host)) {
		GinkgoHelper()
		h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: name}}
		h.Spec = v1alpha1.HostSpec{
			Address: name + ".example", OS: v1alpha1.Linux, CredentialsRef: v1alpha1.LocalReference{Name: name + "-ssh"},
			SSH: &v1alpha1.SSHTransport{User: "jump", HostKeys: []string{shownKey}},
		}
		if jump != "" {
			h.Spec.SSH.Jump = &v1alpha1.LocalReference{Name: jump}
		}
		for _, c := range change {
			c(h)
		}
		Expect(live.Create(b.ctx, h)).To(Succeed())
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: name + "-ssh"},
			StringData: map[string]string{"username": "jump", "password": name + "-password"},
		}
		Expect(live.Create(b.ctx, secret)).To(Succeed())
	}
	passOf := func(name string) {
		GinkgoHelper()
		_, err := b.host.Reconcile(b.ctx, ctrl.Request{NamespacedName: key(name)})
		Expect(err).NotTo(HaveOccurred())
	}
	// settled makes a pass over a hop whose link is then in a state.
	settled := func(name string, status fleet.HostStatus) {
		GinkgoHelper()
		b.fleet.SetHost(key(name), status)
		passOf(name)
	}
	through := func(jump string) func(*v1alpha1.Host) {
		return func(h *v1alpha1.Host) { h.Spec.SSH.Jump = &v1alpha1.LocalReference{Name: jump} }
	}
	connected := func() fleet.HostStatus { return fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now()} }

	It("is reached through a chain, each hop with its own keys and credentials", func() {
		hop("outer", "")
		hop("bastion", "outer")
		settled("outer", connected())
		settled("bastion", connected())
		b.create(through("bastion"))
		b.link(connected())
		b.pass()
		jump := b.endpoint().Jump
		Expect(jump.Spec.Address).To(Equal("bastion.example"))
		Expect(jump.HostKeys).To(Equal([]string{shownKey}))
		Expect(jump.Credentials.Password).To(Equal("bastion-password"))
		Expect(jump.Jump.Spec.Address).To(Equal("outer.example"))
		Expect(jump.Jump.Jump).To(BeNil())
		Expect(b.condition("Ready")).To(Equal("True Connected"))
		Expect(b.get().Status.Via).To(Equal("ssh deploy@:22 via bastion via outer"))
		b.told()
		b.silent()
	})

	It("uses the key that was pinned of its jump host, and waits for it", func() {
		hop("bastion", "", func(h *v1alpha1.Host) { h.Spec.SSH.HostKeys, h.Spec.SSH.TrustOnFirstUse = nil, true })
		b.create(through("bastion"))
		b.pass()
		_, configured := b.fleet.Endpoint(b.key)
		Expect(configured).To(BeFalse(), "the key of the jump host would be taken for the host's own")
		Expect(b.condition("Ready")).To(Equal("Unknown Connecting"))
		Expect(b.message()).To(Equal("waiting for Host bastion, which is jumped through, to be connected"))
		passOf("bastion")
		settled("bastion", fleet.HostStatus{State: fleet.Untrusted, Unpinned: true, SeenKey: shownKey})
		settled("bastion", connected())
		b.pass()
		Expect(b.endpoint().Jump.HostKeys).To(Equal([]string{shownKey}))
	})

	// A hundred Hosts behind a bastion would try a wrong password of it a hundred times.
	It("is not dialled while its jump host has not been let in, or was refused", func() {
		hop("bastion", "")
		settled("bastion", fleet.HostStatus{State: fleet.Connecting})
		b.create(through("bastion"))
		b.pass()
		_, configured := b.fleet.Endpoint(b.key)
		Expect(configured).To(BeFalse())

		settled("bastion", fleet.HostStatus{State: fleet.CredentialsRefused, Message: `the host refused user "jump"`})
		b.pass()
		_, configured = b.fleet.Endpoint(b.key)
		Expect(configured).To(BeFalse())
		Expect(b.condition("Ready")).To(Equal("False JumpRefused"))
		Expect(b.condition("Stalled")).To(Equal("True JumpRefused"))
		Expect(b.message()).To(Equal(`Host bastion cannot be jumped through: the host refused user "jump"; correct it there`))
		Expect(b.told()).To(ContainElement(ContainSubstring("Warning JumpRefused")))
		b.silent()

		By("coming back when it is let in, and keeping its own link when the bastion is away")
		settled("bastion", connected())
		b.pass()
		b.link(connected())
		b.pass()
		Expect(b.condition("Ready")).To(Equal("True Connected"))
		removed := len(b.fleet.Removed())
		settled("bastion", fleet.HostStatus{State: fleet.Unreachable, Message: "no route to host"})
		b.pass()
		Expect(b.fleet.Removed()).To(HaveLen(removed), "a bastion without a shell is never connected, and can be jumped through")
		Expect(b.condition("Ready")).To(Equal("True Connected"))
	})

	It("uses the changed credentials of its jump host at once", func() {
		hop("bastion", "")
		settled("bastion", connected())
		b.create(through("bastion"))
		b.link(connected())
		b.pass()
		before := b.endpoint()
		secret := &corev1.Secret{}
		Expect(live.Get(b.ctx, key("bastion-ssh"), secret)).To(Succeed())
		secret.Data["password"] = []byte("new")
		Expect(live.Update(b.ctx, secret)).To(Succeed())
		b.fleet.SetHost(key("bastion"), fleet.HostStatus{State: fleet.Connected, Version: before.Jump.Version})
		b.pass()
		bastion, _ := b.fleet.Endpoint(key("bastion"))
		Expect(bastion.Credentials.Password).To(Equal("new"), "the bastion's own link is told first")
		Expect(b.endpoint().Version).To(Equal(before.Version))
		settled("bastion", connected())
		b.pass()
		Expect(b.endpoint().Version).NotTo(Equal(before.Version))
		Expect(b.endpoint().Jump.Credentials.Password).To(Equal("new"))
	})

	It("keeps a request for another attempt until its jump host is connected", func() {
		hop("bastion", "")
		settled("bastion", connected())
		b.create(through("bastion"))
		b.pass()
		b.link(fleet.HostStatus{State: fleet.CredentialsRefused, Message: `the host refused user "deploy"`})
		b.pass()
		Expect(b.get().Status.RefusedLogin).To(HaveLen(64))

		By("asking while the operator starts anew")
		b.fleet.Reset()
		settled("bastion", fleet.HostStatus{State: fleet.Connecting})
		b.update(func(h *v1alpha1.Host) {
			h.Annotations = map[string]string{v1alpha1.ReconcileRequestAnnotation: "1"}
		})
		b.pass()
		Expect(b.get().Status.LastHandledReconcileAt).To(BeEmpty())
		settled("bastion", connected())
		b.pass()
		Expect(b.endpoint().Refused).To(BeEmpty())
		Expect(b.endpoint().RequestedAt).To(Equal("1"))
	})

	DescribeTable("says what is wrong with the jump, and the way out", func(arrange func(), reason, message string) {
		arrange()
		b.create(through("bastion"))
		b.pass()
		Expect(b.condition("Ready")).To(Equal("False " + reason))
		Expect(b.condition("Stalled")).To(Equal("True " + reason))
		Expect(b.message()).To(Equal(fmt.Sprintf(message, b.key.Namespace)))
		_, configured := b.fleet.Endpoint(b.key)
		Expect(configured).To(BeFalse())
	},
		Entry("missing", func() {}, "JumpNotFound",
			"spec.ssh.jump names Host %[1]s/bastion, which does not exist; create it, name another, or remove the field"),
		Entry("further on missing", func() { hop("bastion", "outer") }, "JumpNotFound",
			"spec.ssh.jump of Host bastion names Host %[1]s/outer, which does not exist; create it, name another, or remove the field"),
		Entry("WinRM", func() {
			hop("bastion", "", func(h *v1alpha1.Host) {
				h.Spec.OS, h.Spec.SSH, h.Spec.WinRM = v1alpha1.Windows, nil, &v1alpha1.WinRMTransport{}
			})
		}, "JumpInvalid", "spec.ssh.jump names Host bastion, which is reached by WinRM and cannot be jumped through; name one with spec.ssh%.0[1]s"),
		Entry("suspended", func() { hop("bastion", "", func(h *v1alpha1.Host) { h.Spec.Suspend = true }) }, "JumpInvalid",
			"spec.ssh.jump names Host bastion, which is suspended; remove its spec.suspend, or name another%.0[1]s"),
		Entry("without its Secret", func() {
			hop("bastion", "", func(h *v1alpha1.Host) { h.Spec.CredentialsRef.Name = "none" })
		}, "JumpInvalid", "Host bastion cannot be jumped through: Secret %[1]s/none does not exist; correct it there"),
		Entry("a circle", func() { hop("bastion", "outer"); hop("outer", "web") }, "JumpInvalid",
			"spec.ssh.jump of Host outer leads in a circle (web, bastion, outer, web); let one of these be reached directly%.0[1]s"),
		Entry("itself", func() { hop("bastion", "bastion") }, "JumpInvalid",
			"spec.ssh.jump of Host bastion leads in a circle (web, bastion, bastion); let one of these be reached directly%.0[1]s"),
		Entry("too many", func() { hop("bastion", "b2"); hop("b2", "b3"); hop("b3", "b4"); hop("b4", "b5"); hop("b5", "") }, "JumpInvalid",
			"spec.ssh.jump of Host b4 makes a chain of more than 4 Hosts (web, bastion, b2, b3, b4, b5); shorten it%.0[1]s"),
	)

	It("takes four jump hosts", func() {
		hop("bastion", "b2")
		hop("b2", "b3")
		hop("b3", "b4")
		hop("b4", "")
		for _, name := range []string{"b4", "b3", "b2", "bastion"} {
			settled(name, connected())
		}
		b.create(through("bastion"))
		b.pass()
		Expect(b.endpoint().Jump.Jump.Jump.Jump.Spec.Address).To(Equal("b4.example"))
	})

	It("has its jump host wait with its deletion, and still leads through it meanwhile", func() {
		hop("bastion", "")
		settled("bastion", connected())
		b.create(through("bastion"))
		b.link(connected())
		b.pass()
		b.told()
		bastion := &v1alpha1.Host{}
		Expect(live.Get(b.ctx, key("bastion"), bastion)).To(Succeed())
		Expect(live.Delete(b.ctx, bastion)).To(Succeed())
		passOf("bastion")
		Expect(live.Get(b.ctx, key("bastion"), bastion)).To(Succeed())
		ready := bastion.Status.Conditions[0]
		for _, c := range bastion.Status.Conditions {
			if c.Type == v1alpha1.ReadyCondition {
				ready = c
			}
		}
		Expect(ready.Reason).To(Equal("InUse"))
		Expect(ready.Message).To(Equal("the Host is deleted when no Host jumps through it any longer (spec.ssh.jump); still doing so: web"))
		Expect(b.fleet.Removed()).NotTo(ContainElement(key("bastion")))

		b.pass()
		Expect(b.condition("Ready")).To(Equal("True Connected"), "whoever clears up there needs the way")
		Expect(b.message()).To(ContainSubstring("Host bastion, which is jumped through, is being deleted, and waits for that to end: set spec.ssh.jump to another Host"))

		Expect(live.Delete(b.ctx, b.get())).To(Succeed())
		b.pass()
		Expect(apierrors.IsNotFound(live.Get(b.ctx, b.key, &v1alpha1.Host{}))).To(BeTrue())
		passOf("bastion")
		Expect(apierrors.IsNotFound(live.Get(b.ctx, key("bastion"), bastion))).To(BeTrue())
	})
})

var _ = Describe("The identity of a Host", func() {
	var b *bench
	BeforeEach(func() {
		b = newBench(context.Background())
		b.secret(map[string]string{"password": "canary-4711"})
	})
	identity := func() string {
		GinkgoHelper()
		for _, c := range b.get().Status.Conditions {
			if c.Type == v1alpha1.IdentityTrustedCondition {
				return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
			}
		}
		return "absent"
	}
	seen := func(key string) fleet.HostStatus {
		return fleet.HostStatus{State: fleet.Connected, LastSeen: b.clock.Now(), SeenKey: key}
	}

	It("is known by authorities, and says so", func() {
		b.create(func(h *v1alpha1.Host) {
			h.Spec.SSH.HostKeys, h.Spec.SSH.HostKeyAuthorities, h.Spec.SSH.TrustOnFirstUse = nil, []string{authorityKey}, true
		})
		b.link(seen(certificate))
		b.pass()
		Expect(identity()).To(Equal("True Verified: the host shows a certificate that an authority of spec.ssh.hostKeyAuthorities signed"))

		By("not pinning what an authority has not signed")
		b.link(fleet.HostStatus{State: fleet.Untrusted, Unpinned: true, SeenKey: shownKey, Message: "the host shows key SHA256:x"})
		b.pass()
		Expect(b.get().Status.HostKey).To(BeEmpty())
		Expect(b.condition("Ready")).To(Equal("False IdentityMismatch"))
		Expect(b.message()).To(ContainSubstring("have the host's key signed by an authority of spec.ssh.hostKeyAuthorities"))
	})

	It("tells a declared key from a certificate", func() {
		b.create(func(h *v1alpha1.Host) { h.Spec.SSH.HostKeyAuthorities = []string{authorityKey} })
		b.link(seen(pinnedKey))
		b.pass()
		Expect(identity()).To(Equal("True Verified: the host shows a key of spec.ssh.hostKeys"))
		b.link(seen(certificate))
		b.pass()
		Expect(identity()).To(ContainSubstring("certificate that an authority"))
	})

	It("is proved by sealed messages over HTTP", func() {
		b.secret(map[string]string{"username": "ops", "password": "canary-4711"})
		b.create(func(h *v1alpha1.Host) {
			h.Spec.OS, h.Spec.SSH = v1alpha1.Windows, nil
			h.Spec.WinRM = &v1alpha1.WinRMTransport{Scheme: v1alpha1.HTTP, Authentication: v1alpha1.NTLM}
		})
		b.link(seen(""))
		b.pass()
		Expect(identity()).To(Equal("True Verified: the host seals its messages with a key that only a party to the NTLM authentication has"))
		Expect(b.get().Status.Via).To(Equal("winrm/NTLM ops@:5985"))
	})

	DescribeTable("names an entry that cannot be read", func(change func(*v1alpha1.Host), message string) {
		b.create(change)
		b.link(seen(pinnedKey))
		b.pass()
		Expect(b.condition("Ready")).To(Equal("False InvalidSpec"))
		Expect(b.condition("Stalled")).To(Equal("True InvalidSpec"))
		Expect(b.condition("IdentityTrusted")).To(Equal("False InvalidSpec"))
		Expect(b.message()).To(HavePrefix(message))
		_, configured := b.fleet.Endpoint(b.key)
		Expect(configured).To(BeFalse())
	},
		Entry("a key", func(h *v1alpha1.Host) { h.Spec.SSH.HostKeys = []string{pinnedKey, "ssh-ed25519 AAAAC3Nz"} },
			"spec.ssh.hostKeys[1] (ssh-ed25519 AAAAC3Nz) is not a public key; copy all of the line"),
		Entry("an authority", func(h *v1alpha1.Host) { h.Spec.SSH.HostKeyAuthorities = []string{"ssh-rsa AAAA"} },
			"spec.ssh.hostKeyAuthorities[0] (ssh-rsa AAAA) is not a public key"),
		Entry("a certificate as a key", func(h *v1alpha1.Host) { h.Spec.SSH.HostKeys = []string{certificate} },
			"spec.ssh.hostKeys[0] (ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI..."),
	)

	DescribeTable("names the keys that a way to log in needs", func(authentication v1alpha1.WinRMAuthentication, data map[string]string, message string) {
		before := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: "web-ssh"}}
		Expect(live.Delete(b.ctx, before)).To(Succeed())
		b.secret(data)
		b.create(func(h *v1alpha1.Host) {
			h.Spec.OS, h.Spec.SSH = v1alpha1.Windows, nil
			h.Spec.WinRM = &v1alpha1.WinRMTransport{Authentication: authentication}
			if authentication == v1alpha1.KerberosTicket {
				h.Spec.WinRM.Kerberos = &v1alpha1.Kerberos{Realm: "CORP.EXAMPLE", KDCs: []string{"dc.corp.example"}}
			}
		})
		Expect(b.pass().RequeueAfter).To(BeNumerically("<", 6*time.Second))
		Expect(b.condition("Ready")).To(Equal("False CredentialsInvalid"))
		Expect(b.message()).To(Equal("Secret " + b.key.Namespace + "/web-ssh " + message + "; correct it and it is used at once"))
	},
		Entry("Certificate", v1alpha1.ClientCertificate, map[string]string{"username": "ops", "password": "canary-4711"},
			`has no keys "tls.crt" and "tls.key", which authentication Certificate needs`),
		Entry("Kerberos", v1alpha1.KerberosTicket, map[string]string{"username": "ops"},
			`has no key "password", which authentication Kerberos needs`),
		Entry("NTLM", v1alpha1.NTLM, map[string]string{"tls.key": "x"},
			`has no keys "username" and "password", which authentication NTLM needs`),
	)
})
