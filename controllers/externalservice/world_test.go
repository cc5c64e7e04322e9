package externalservice_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/externalservice"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

const (
	definition = "[Service]\nExecStart=/usr/bin/ledger\n[Install]\nWantedBy=multi-user.target\n"
	config1    = "/etc/ledger.conf"
	address    = "10.1.2.3"
	patience   = 20 * time.Second
)

var ledgerUnit = machine.Service{Manager: machine.Systemd, Name: "ledger.service"}

// created is what bringing the ledger into being does to a host, in order.
var created = []string{
	"claim file//etc/ledger.conf", "claim systemd/ledger.service", "put /etc/ledger.conf",
	"put /etc/systemd/system/ledger.service", "reload units", "enable ledger.service", "start systemd/ledger.service",
}

// world is a namespace with a Host, and the machine behind it.
type world struct {
	namespace string
	host      *fleettest.Host
	hostKey   fleet.HostKey
	key       types.NamespacedName
	network   *fleettest.Network
	clock     *shiftedClock
	probe     func(fleet.Probe) error
	recorder  *recorder
	operator  *operator
}

func newWorld(ctx context.Context) *world {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-"}}
	Expect(live.Create(ctx, namespace)).To(Succeed())
	w := &world{
		namespace: namespace.Name,
		host:      fleettest.NewLinux(),
		hostKey:   fleet.HostKey{Namespace: namespace.Name, Name: "web"},
		key:       types.NamespacedName{Namespace: namespace.Name, Name: "ledger"},
		network:   &fleettest.Network{},
		clock:     &shiftedClock{PassiveClock: clock.RealClock{}},
		probe:     func(fleet.Probe) error { return nil },
		recorder:  &recorder{},
	}
	w.network.Attach(address, w.host)
	Expect(live.Create(ctx, &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1alpha1.HostSpec{
			Address: address, OS: v1alpha1.Linux,
			SSH:            &v1alpha1.SSHTransport{TrustOnFirstUse: true},
			CredentialsRef: v1alpha1.LocalReference{Name: "web"},
		},
	})).To(Succeed())
	w.begin()
	DeferCleanup(func() { w.operator.end() })
	return w
}

// pass makes one pass and checks the contract of conditions after it.
func (w *world) pass(ctx context.Context) {
	GinkgoHelper()
	_, err := w.tryPass(ctx)
	Expect(err).NotTo(HaveOccurred())
}

func (w *world) tryPass(ctx context.Context) (ctrl.Result, error) {
	GinkgoHelper()
	result, err := w.operator.reconciler.Reconcile(ctx, ctrl.Request{NamespacedName: w.key})
	if object := w.find(ctx); object != nil && err == nil && object.Status.ObservedGeneration >= 0 {
		Expect(condition.Check(object.Status.Conditions)).To(Succeed())
	}
	return result, err
}

// until makes passes until something holds.
func (w *world) until(ctx context.Context, what string, holds func() bool) {
	GinkgoHelper()
	w.repeat(ctx, what, holds, func() { w.pass(ctx) })
}

func (w *world) repeat(ctx context.Context, what string, holds func() bool, do func()) {
	GinkgoHelper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			Fail(fmt.Sprintf("%s did not come true: %s\njournal: %q\nevents: %q", what, w.describe(ctx), w.host.Journal(), w.recorder.all()))
		}
		do()
		time.Sleep(5 * time.Millisecond) // between two looks at a condition
	}
}

func (w *world) describe(ctx context.Context) string {
	object := w.find(ctx)
	if object == nil {
		return "the object is gone"
	}
	return fmt.Sprintf("%+v\nexecution: %+v", object.Status.Conditions, object.Status.Execution)
}

// find reads the object; nil when it is gone.
func (w *world) find(ctx context.Context) *v1alpha1.ExternalService {
	GinkgoHelper()
	object := &v1alpha1.ExternalService{}
	err := live.Get(ctx, w.key, object)
	if client.IgnoreNotFound(err) != nil {
		Expect(err).NotTo(HaveOccurred())
	}
	if err != nil {
		return nil
	}
	return object
}

func (w *world) ready(ctx context.Context) func() bool {
	return func() bool {
		object := w.find(ctx)
		return object != nil && object.Status.ObservedGeneration == object.Generation &&
			condition.IsTrue(object.Status.Conditions, v1alpha1.ReadyCondition)
	}
}

// reason of a condition, with its status: "True/Succeeded"; empty without the condition.
func (w *world) reason(ctx context.Context, kind string) string {
	object := w.find(ctx)
	if object == nil {
		return "Gone"
	}
	if c := condition.Get(object.Status.Conditions, kind); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

func (w *world) message(ctx context.Context, kind string) string {
	if c := condition.Get(w.find(ctx).Status.Conditions, kind); c != nil {
		return c.Message
	}
	return ""
}

func (w *world) untilReason(ctx context.Context, want string) {
	GinkgoHelper()
	w.until(ctx, "Ready="+want, func() bool { return w.reason(ctx, v1alpha1.ReadyCondition) == want })
}

// ledger is a unit with a configuration file that restarts it.
func (w *world) ledger() *v1alpha1.ExternalService {
	text, content, enabled := definition, "port=1\n", true
	return &v1alpha1.ExternalService{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.key.Namespace, Name: w.key.Name},
		Spec: v1alpha1.ExternalServiceSpec{
			HostRef:  v1alpha1.HostReference{Name: "web"},
			Interval: duration(time.Second),
			Files:    []v1alpha1.File{{Path: config1, Content: &content, RestartOnChange: true}},
			Systemd:  &v1alpha1.Systemd{Unit: ledgerUnit.Name, Definition: &text, Enabled: &enabled},
		},
	}
}

// create makes the ledger and brings it into being.
func (w *world) create(ctx context.Context, changes ...func(*v1alpha1.ExternalServiceSpec)) {
	GinkgoHelper()
	w.declare(ctx, changes...)
	w.until(ctx, "Ready", w.ready(ctx))
}

func (w *world) declare(ctx context.Context, changes ...func(*v1alpha1.ExternalServiceSpec)) {
	GinkgoHelper()
	object := w.ledger()
	for _, change := range changes {
		change(&object.Spec)
	}
	Expect(live.Create(ctx, object)).To(Succeed())
}

// edit changes the object as a user would.
func (w *world) edit(ctx context.Context, change func(*v1alpha1.ExternalService)) {
	GinkgoHelper()
	object := w.find(ctx)
	before := object.DeepCopy()
	change(object)
	Expect(live.Patch(ctx, object, client.MergeFrom(before))).To(Succeed())
}

func (w *world) editHost(ctx context.Context, change func(*v1alpha1.Host)) {
	GinkgoHelper()
	host := &v1alpha1.Host{}
	Expect(live.Get(ctx, w.hostKey, host)).To(Succeed())
	before := host.DeepCopy()
	change(host)
	Expect(live.Patch(ctx, host, client.MergeFrom(before))).To(Succeed())
}

func (w *world) setContent(ctx context.Context, content string) {
	GinkgoHelper()
	w.edit(ctx, func(es *v1alpha1.ExternalService) { es.Spec.Files[0].Content = &content })
}

func (w *world) delete(ctx context.Context) {
	GinkgoHelper()
	Expect(live.Delete(ctx, w.find(ctx))).To(Succeed())
}

func (w *world) gone(ctx context.Context) func() bool {
	return func() bool { return w.find(ctx) == nil }
}

// shiftedClock is the real clock, set forward by tests.
type shiftedClock struct {
	clock.PassiveClock
	mu    sync.Mutex
	shift time.Duration
}

func (c *shiftedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.PassiveClock.Now().Add(c.shift)
}

func (c *shiftedClock) forward(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift += by
}

// recorder keeps events: "Warning JobFailed: ...".
type recorder struct {
	mu     sync.Mutex
	events []string
}

var _ events.EventRecorder = &recorder{}

func (r *recorder) Eventf(_, _ runtime.Object, kind, reason, _, note string, arguments ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, kind+" "+reason+": "+fmt.Sprintf(note, arguments...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

// count of events with a reason.
func (r *recorder) count(reason string) int {
	count := 0
	for _, event := range r.all() {
		if strings.Contains(event, " "+reason+":") {
			count++
		}
	}
	return count
}

// object is how the fleet knows the ledger.
func (w *world) object() fleet.Object { return fleet.Object{Kind: externalservice.Kind, Key: w.key} }
