package host_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/controllers/host"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
)

var (
	config *rest.Config
	live   client.Client
	scheme = runtime.NewScheme()
)

func TestHost(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Host controller")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		var err error
		assets, err = controlplane.Assets(ctx, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
	}
	environment := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd")},
		ErrorIfCRDPathMissing: true,
	}
	var err error
	config, err = environment.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(environment.Stop)
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	live, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
})

// indexed answers the controller's queries by index from live reads, and
// counts writes. So a test sees each pass with fresh eyes.
type indexed struct {
	client.Client
	writes int
}

func (c *indexed) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	switch found := list.(type) {
	case *v1alpha1.ExternalServiceList:
		wanted, indexed := asked.FieldSelector.RequiresExactMatch(host.Index)
		Expect(indexed).To(BeTrue(), "ExternalServices are found by the index")
		all := &v1alpha1.ExternalServiceList{}
		if err := c.Client.List(ctx, all); err != nil {
			return err
		}
		for _, service := range all.Items {
			if host.IndexHost(&service)[0] == wanted {
				found.Items = append(found.Items, service)
			}
		}
		return nil
	case *v1alpha1.HostList:
		wanted, indexed := asked.FieldSelector.RequiresExactMatch(host.JumpIndex)
		Expect(indexed).To(BeTrue(), "Hosts are found by the index")
		all := &v1alpha1.HostList{}
		if err := c.Client.List(ctx, all); err != nil {
			return err
		}
		for _, h := range all.Items {
			if slices.Contains(host.IndexJump(&h), wanted) {
				found.Items = append(found.Items, h)
			}
		}
		return nil
	}
	return c.Client.List(ctx, list, options...)
}

func (c *indexed) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	c.writes++
	return c.Client.Patch(ctx, object, patch, options...)
}

func (c *indexed) Status() client.SubResourceWriter { return countedStatus{c.Client.Status(), c} }

type countedStatus struct {
	client.SubResourceWriter
	counter *indexed
}

func (s countedStatus) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
	s.counter.writes++
	return s.SubResourceWriter.Patch(ctx, object, patch, options...)
}

// namespace makes a namespace that nothing else uses.
func namespace(ctx context.Context) string {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "host-"}}
	Expect(live.Create(ctx, ns)).To(Succeed())
	return ns.Name
}
