package hybridapplication

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

func contextWithStop() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}

// The story goes through creation in two levels, an edit with a change and a
// prune, and deletion. Both versions become ready by themselves.
const (
	storyBegins = `components: [{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "1", y: "2"}}},
		{name: b, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "${components.a.data.x}"}}}, {name: old, dependsOn: [b], manifest: {apiVersion: v1, kind: ConfigMap}}]`
	storyGoesOn = `components: [{name: a, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "2"}}},
		{name: b, manifest: {apiVersion: v1, kind: ConfigMap, data: {x: "${components.a.data.x}"}}}]`
)

// snapshot of what the application made, without what differs from run to run.
func snapshot(h *harness, key types.NamespacedName) string {
	list := &corev1.ConfigMapList{}
	Expect(admin.List(h.ctx, list, client.InNamespace(h.namespace), client.MatchingLabels{"app.kubernetes.io/managed-by": "isthmus"})).To(Succeed())
	var lines []string
	for _, item := range list.Items {
		data, err := json.Marshal(item.Data)
		Expect(err).NotTo(HaveOccurred())
		lines = append(lines, fmt.Sprintf("%s %s", item.Name, data))
	}
	slices.Sort(lines)
	app := &v1alpha1.HybridApplication{}
	if err := admin.Get(h.ctx, key, app); err == nil {
		lines = append(lines, readyOf(app))
		for _, e := range app.Status.Inventory {
			Expect(e.UID).NotTo(BeEmpty())
			Expect(e.DesiredHash).NotTo(BeEmpty())
			lines = append(lines, fmt.Sprintf("%s %s %d", e.Component, e.Name, e.Order))
		}
	}
	return strings.Join(lines, "\n")
}

// chapter is a part of the story: what the user does, and when it is over.
type chapter struct {
	name string
	do   func(h *harness) types.NamespacedName
	over func(h *harness, key types.NamespacedName)
}

var story = []chapter{
	{"creation", func(h *harness) types.NamespacedName { return h.create("app", storyBegins) },
		func(h *harness, key types.NamespacedName) { h.untilReady(key) }},
	{"edit", func(h *harness) types.NamespacedName {
		key := types.NamespacedName{Namespace: h.namespace, Name: "app"}
		h.edit(key, storyGoesOn)
		return key
	}, func(h *harness, key types.NamespacedName) {
		h.until(key, func(g Gomega, app *v1alpha1.HybridApplication) {
			g.Expect(app.Status.ObservedGeneration).To(Equal(app.Generation))
			g.Expect(readyOf(app)).To(Equal("True Succeeded"))
		})
	}},
	{"deletion", func(h *harness) types.NamespacedName {
		key := types.NamespacedName{Namespace: h.namespace, Name: "app"}
		h.delete(key)
		return key
	}, func(h *harness, key types.NamespacedName) { h.untilGone(key) }},
}

// dieDuring makes passes until the n-th request of the operator fails, and
// starts a new operator. It returns how many requests there were.
func dieDuring(h *harness, key types.NamespacedName, n int, how failure) (requests int) {
	h.wire.failNext(n, how)
	for range 3 {
		if _, err := h.pass(key); err != nil {
			break
		}
	}
	requests = h.wire.count()
	h.restart()
	return requests
}

var _ = Describe("an operator that dies", func() {
	// anyRequest runs a story once without a failure, and once for each of its requests.
	anyRequest := func(run func(h *harness, n int) (requests int, end string)) {
		want, total := "", 0
		for n := 0; n <= total; n++ {
			requests, end := run(newHarness(GinkgoT().Context()), n)
			if n == 0 {
				want, total = end, requests
				Expect(total).To(BeNumerically(">=", 3))
			}
			Expect(end).To(Equal(want), "request %d of %d failed", n, total)
		}
	}
	for at, dying := range story {
		for _, how := range []failure{beforeEffect, afterEffect} {
			It(fmt.Sprintf("comes to the same end when any request fails %s during %s", how, dying.name), func() {
				anyRequest(func(h *harness, n int) (requests int, end string) {
					var key types.NamespacedName
					for i, c := range story[:at+1] {
						key = c.do(h)
						if i == at {
							requests = dieDuring(h, key, n, how)
						}
						c.over(h, key)
						h.settle(key)
					}
					Expect(strings.Count(strings.Join(h.eventReasons(), "\n"), "Created created ConfigMap app-a")).To(BeNumerically("<=", 1))
					return requests, snapshot(h, key)
				})
			})
		}
	}
	for _, how := range []failure{beforeEffect, afterEffect} {
		It(fmt.Sprintf("leaves nothing behind when any request fails %s and the application is deleted at once", how), func() {
			anyRequest(func(h *harness, n int) (requests int, end string) {
				key := h.create("app", storyBegins)
				requests = dieDuring(h, key, n, how)
				h.delete(key)
				h.untilGone(key)
				return requests, snapshot(h, key)
			})
		})
	}
})
