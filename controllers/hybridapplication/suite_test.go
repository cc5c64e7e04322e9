package hybridapplication

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
)

var (
	environment *envtest.Environment
	scheme      = runtime.NewScheme()
	// admin plays the user, and the controllers that an envtest does not have.
	admin client.Client
	// operator is a user with the role that the operator has, and no more.
	operator *rest.Config
)

func TestHybridApplication(t *testing.T) {
	RegisterFailHandler(Fail)
	ctrl.SetLogger(GinkgoLogr)
	RunSpecs(t, "HybridApplication")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		var err error
		assets, err = controlplane.Assets(ctx, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	environment = &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := environment.Start()
	Expect(err).NotTo(HaveOccurred())
	admin, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())

	user, err := environment.AddUser(envtest.User{Name: "isthmus-operator"}, nil)
	Expect(err).NotTo(HaveOccurred())
	operator = user.Config()
	grantOperator(ctx)
})

var _ = AfterSuite(func() {
	if environment != nil {
		Expect(environment.Stop()).To(Succeed())
	}
})

// operatorRules are what the markers in controller.go ask for.
var operatorRules = []rbacv1.PolicyRule{
	{APIGroups: []string{"isthmus.dev"}, Resources: []string{"hybridapplications"}, Verbs: []string{"get", "list", "watch", "patch"}},
	{APIGroups: []string{"isthmus.dev"}, Resources: []string{"hybridapplications/status"}, Verbs: []string{"patch"}},
	{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"impersonate"}},
	{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
}

func grantOperator(ctx SpecContext) {
	name := metav1.ObjectMeta{Name: "isthmus-operator"}
	Expect(admin.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: name, Rules: operatorRules})).To(Succeed())
	Expect(admin.Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: name,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name.Name}},
	})).To(Succeed())
}
