package hybridapplication

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/condition"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// wire sees every request of the operator, counts those that write, and can
// make one fail: before it reaches the API server, or after, so that only its answer is lost.
type wire struct {
	mu       sync.Mutex
	writes   []string
	requests int
	failAt   int
	lose     failure
}

// failure is how a request fails.
type failure string

const (
	beforeEffect failure = "before its effect"
	afterEffect  failure = "after its effect"
)

var errInjected = errors.New("injected: the operator died")

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.URL.Query().Get("watch") != "" || !isObjectRequest(request.URL.Path) {
			return next.RoundTrip(request)
		}
		w.mu.Lock()
		w.requests++
		due := w.requests == w.failAt
		if request.Method != http.MethodGet {
			w.writes = append(w.writes, request.Method+" "+request.URL.Path)
		}
		w.mu.Unlock()
		if due && w.lose == beforeEffect {
			return nil, errInjected
		}
		response, err := next.RoundTrip(request)
		if due && err == nil {
			_ = response.Body.Close()
			return nil, errInjected
		}
		return response, err
	})
}

// isObjectRequest leaves out discovery and schemas.
func isObjectRequest(path string) bool { return strings.Contains(path, "/namespaces/") }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func (w *wire) takeWrites() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.writes
	w.writes = nil
	return taken
}

func (w *wire) failNext(n int, how failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests, w.failAt, w.lose = 0, n, how
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

// harness is an operator for one namespace, driven pass by pass.
type harness struct {
	ctx       context.Context
	namespace string
	wire      *wire
	cluster   *objects.Cluster
	recorder  *events.FakeRecorder
	r         *Reconciler
	told      []string
}

// memberRules are what the ServiceAccount "deployer" may do in its namespace.
var memberRules = []rbacv1.PolicyRule{
	{APIGroups: []string{"", "apps", "isthmus.dev"}, Resources: []string{"configmaps", "services", "deployments", "externalservices"},
		Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
}

func newHarness(ctx context.Context) *harness {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "happ-"}}
	Expect(admin.Create(ctx, namespace)).To(Succeed())
	h := &harness{ctx: ctx, namespace: namespace.Name, recorder: events.NewFakeRecorder(1000)}
	h.grant("deployer", memberRules)
	h.restart()
	DeferCleanup(func() { h.cluster.Stop() })
	return h
}

// restart is a new operator that knows nothing but what the API server has.
func (h *harness) restart() {
	if h.cluster != nil {
		h.cluster.Stop()
	}
	h.wire = &wire{}
	config := rest.CopyConfig(operator)
	config.QPS = -1
	config.WrapTransport = h.wire.wrap
	httpClient, err := rest.HTTPClientFor(config)
	Expect(err).NotTo(HaveOccurred())
	mapper, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	Expect(err).NotTo(HaveOccurred())
	c, err := client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
	Expect(err).NotTo(HaveOccurred())
	clock := clocktesting.NewFakePassiveClock(time.Unix(1_700_000_000, 0))
	h.cluster = objects.NewCluster(config, mapper)
	h.r = &Reconciler{Client: c, Objects: h.cluster, Recorder: h.recorder, Clock: clock,
		Schemas: objects.NewSchemas(discovery.NewDiscoveryClientForConfigOrDie(config), mapper, clock)}
}

// grant gives a ServiceAccount a role, and waits until the API server knows.
func (h *harness) grant(account string, rules []rbacv1.PolicyRule) {
	meta := metav1.ObjectMeta{Name: account, Namespace: h.namespace}
	Expect(client.IgnoreAlreadyExists(admin.Create(h.ctx, &corev1.ServiceAccount{ObjectMeta: meta}))).To(Succeed())
	Expect(admin.Create(h.ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules})).To(Succeed())
	Expect(admin.Create(h.ctx, &rbacv1.RoleBinding{ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: h.namespace}},
	})).To(Succeed())
	h.awaitAccess(account, BeTrue())
}

func (h *harness) revoke(account string) {
	Expect(admin.Delete(h.ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: h.namespace}})).To(Succeed())
	Expect(admin.Delete(h.ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: h.namespace}})).To(Succeed())
	h.awaitAccess(account, BeFalse())
}

func (h *harness) awaitAccess(account string, matcher OmegaMatcher) {
	Eventually(func(g Gomega) {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:" + h.namespace + ":" + account,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: h.namespace, Verb: "get", Resource: "configmaps"},
		}}
		g.Expect(admin.Create(h.ctx, review)).To(Succeed())
		g.Expect(review.Status.Allowed).To(matcher)
	}).WithTimeout(10 * time.Second).Should(Succeed())
}

func (h *harness) create(name, spec string) types.NamespacedName {
	app := &v1alpha1.HybridApplication{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: h.namespace}}
	Expect(yaml.UnmarshalStrict([]byte(spec), &app.Spec)).To(Succeed())
	if app.Spec.ServiceAccountName == "" {
		app.Spec.ServiceAccountName = "deployer"
	}
	Expect(admin.Create(h.ctx, app)).To(Succeed())
	return client.ObjectKeyFromObject(app)
}

func (h *harness) edit(key types.NamespacedName, spec string) {
	app := h.app(key)
	app.Spec = v1alpha1.HybridApplicationSpec{}
	Expect(yaml.UnmarshalStrict([]byte(spec), &app.Spec)).To(Succeed())
	if app.Spec.ServiceAccountName == "" {
		app.Spec.ServiceAccountName = "deployer"
	}
	Expect(admin.Update(h.ctx, app)).To(Succeed())
}

func (h *harness) app(key types.NamespacedName) *v1alpha1.HybridApplication {
	app := &v1alpha1.HybridApplication{}
	ExpectWithOffset(1, admin.Get(h.ctx, key, app)).To(Succeed())
	return app
}

// pass makes one pass and holds the status to the contract.
func (h *harness) pass(key types.NamespacedName) (ctrl.Result, error) {
	result, err := h.r.Reconcile(h.ctx, ctrl.Request{NamespacedName: key})
	app := &v1alpha1.HybridApplication{}
	if client.IgnoreNotFound(admin.Get(h.ctx, key, app)) == nil && app.UID != "" && err == nil {
		ExpectWithOffset(1, condition.Check(app.Status.Conditions)).To(Succeed())
	}
	return result, err
}

// settle makes passes until one writes nothing and ends without an error.
func (h *harness) settle(key types.NamespacedName) {
	EventuallyWithOffset(1, func(g Gomega) {
		h.wire.takeWrites()
		_, err := h.pass(key)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(h.wire.takeWrites()).To(BeEmpty())
	}).WithTimeout(20 * time.Second).WithPolling(20 * time.Millisecond).Should(Succeed())
}

// until makes passes until the status is as it should be.
func (h *harness) until(key types.NamespacedName, check func(g Gomega, app *v1alpha1.HybridApplication)) {
	EventuallyWithOffset(1, func(g Gomega) {
		_, err := h.pass(key)
		g.Expect(err).NotTo(HaveOccurred())
		app := &v1alpha1.HybridApplication{}
		g.Expect(admin.Get(h.ctx, key, app)).To(Succeed())
		check(g, app)
	}).WithTimeout(20 * time.Second).WithPolling(20 * time.Millisecond).Should(Succeed())
}

func (h *harness) untilReady(key types.NamespacedName) {
	h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) { g.Expect(readyOf(app)).To(Equal("True Succeeded")) })
}

// untilGone makes passes until the application is gone.
func (h *harness) untilGone(key types.NamespacedName) {
	EventuallyWithOffset(1, func(g Gomega) {
		_, err := h.pass(key)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(admin.Get(h.ctx, key, &v1alpha1.HybridApplication{})).NotTo(Succeed())
	}).WithTimeout(20 * time.Second).WithPolling(20 * time.Millisecond).Should(Succeed())
}

func (h *harness) delete(key types.NamespacedName) {
	Expect(admin.Delete(h.ctx, &v1alpha1.HybridApplication{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}})).To(Succeed())
}

// eventReasons drains the events that were sent so far.
func (h *harness) eventReasons() []string {
	for {
		select {
		case line := <-h.recorder.Events:
			h.told = append(h.told, line)
		default:
			return h.told
		}
	}
}

func readyOf(app *v1alpha1.HybridApplication) string {
	ready := condition.Get(app.Status.Conditions, v1alpha1.ReadyCondition)
	if ready == nil {
		return ""
	}
	return fmt.Sprintf("%s %s", ready.Status, ready.Reason)
}

func messageOf(app *v1alpha1.HybridApplication) string {
	return condition.Get(app.Status.Conditions, v1alpha1.ReadyCondition).Message
}

// rowOf finds a component's row.
func rowOf(app *v1alpha1.HybridApplication, name string) v1alpha1.ComponentStatus {
	for _, row := range app.Status.Components {
		if row.Name == name {
			return row
		}
	}
	return v1alpha1.ComponentStatus{}
}

// exists tells whether an object is there, and reads it.
func (h *harness) exists(object client.Object, name string) bool {
	err := admin.Get(h.ctx, types.NamespacedName{Namespace: h.namespace, Name: name}, object)
	Expect(client.IgnoreNotFound(err)).To(Succeed())
	return err == nil
}

// rollOut plays the Deployment controller.
func (h *harness) rollOut(name string) {
	deployment := &appsv1.Deployment{}
	Expect(h.exists(deployment, name)).To(BeTrue(), name)
	n := *deployment.Spec.Replicas
	deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation, Replicas: n, UpdatedReplicas: n,
		ReadyReplicas: n, AvailableReplicas: n, Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}}}
	Expect(admin.Status().Update(h.ctx, deployment)).To(Succeed())
}

// external plays the ExternalService controller.
func (h *harness) external(name string, summary func(*[]metav1.Condition, int64, string, string), reason string, outputs map[string]string) {
	service := &v1alpha1.ExternalService{}
	Expect(h.exists(service, name)).To(BeTrue(), name)
	service.Status.ObservedGeneration = service.Generation
	service.Status.Outputs = outputs
	summary(&service.Status.Conditions, service.Generation, reason, "says "+reason)
	Expect(admin.Status().Update(h.ctx, service)).To(Succeed())
}
