package hybridapplication

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-dev/isthmus/internal/objects"
)

// panicking panics over the object of one component.
type panicking struct {
	Objects
	over string
}

func (p panicking) Get(ctx context.Context, as objects.Identity, ref objects.Reference, notBefore string) (*unstructured.Unstructured, error) {
	if ref.Name == p.over {
		panic("odd object")
	}
	return p.Objects.Get(ctx, as, ref, notBefore)
}

func (p panicking) Apply(ctx context.Context, as objects.Identity, desired *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if desired.GetName() == p.over+"-new" {
		panic("odd answer")
	}
	return p.Objects.Apply(ctx, as, desired)
}

var _ = Describe("A panic beside a pass", func() {
	It("is the problem of one component", func() {
		h := newHarness(GinkgoT().Context())
		h.r.Objects = panicking{Objects: h.cluster, over: "shop-a"}
		key := h.create("shop", components(configMap("a", ""), configMap("a-new", ""), configMap("b", "")))
		_, err := h.pass(key)
		Expect(err).To(MatchError(ContainSubstring("defect")))
		app := h.app(key)
		Expect(readyOf(app)).To(Equal("Unknown ProgressingWithRetry"))
		Expect(rowOf(app, "a").State).To(Equal(stateUnknown))
		Expect(rowOf(app, "a-new").State).To(Equal(stateWaiting))
		Expect(rowOf(app, "b").State).To(Equal(stateReady))
		Expect(h.exists(&corev1.ConfigMap{}, "shop-a")).To(BeFalse())

		h.r.Objects = h.cluster
		h.untilReady(key)
	})
})
