package externalservice_test

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

var _ = Describe("The page about ExternalServices", func() {
	It("shows examples that the API server takes", func(ctx SpecContext) {
		w := newWorld(ctx)
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", "kinds", "externalservice.md"))
		Expect(err).NotTo(HaveOccurred())
		examples := 0
		for _, block := range strings.Split(string(page), "```yaml\n")[1:] {
			text, _, _ := strings.Cut(block, "```")
			object := &v1alpha1.ExternalService{}
			if strings.HasPrefix(text, "files:") {
				Expect(yaml.UnmarshalStrict([]byte(text), &object.Spec)).To(Succeed(), text)
				object.Name, object.Spec.HostRef.Name = "files", "web"
			} else {
				Expect(yaml.UnmarshalStrict([]byte(text), object)).To(Succeed(), text)
			}
			object.Namespace = w.namespace
			Expect(live.Create(ctx, object, client.DryRunAll)).To(Succeed(), text)
			examples++
		}
		Expect(examples).To(Equal(3))
	})
})

var _ = Describe("The API", func() {
	It("refuses what contradicts itself, and says what to do", func(ctx SpecContext) {
		w := newWorld(ctx)
		value := "x"
		for want, change := range map[string]func(*v1alpha1.ExternalServiceSpec){
			"set at most one of spec.systemd, spec.windowsService and spec.script": func(s *v1alpha1.ExternalServiceSpec) {
				s.Systemd = &v1alpha1.Systemd{Unit: "x.service"}
			},
			"set exactly one of value and secretKeyRef": func(s *v1alpha1.ExternalServiceSpec) {
				s.Script.Environment[0] = v1alpha1.EnvironmentVariable{Name: "X", Value: &value, SecretKeyRef: &v1alpha1.KeyReference{Name: "a", Key: "b"}}
			},
			"spec.script.environment[0].name": func(s *v1alpha1.ExternalServiceSpec) { s.Script.Environment[0].Name = "a-b" },
			"Duplicate value": func(s *v1alpha1.ExternalServiceSpec) {
				s.Script.Environment = append(s.Script.Environment, s.Script.Environment[0])
			},
			"spec.script.observeTimeout must be between 100ms and 1m": func(s *v1alpha1.ExternalServiceSpec) {
				s.Script.ObserveTimeout = &metav1.Duration{Duration: time.Hour}
			},
			"spec.script.interpreter": func(s *v1alpha1.ExternalServiceSpec) { s.Script.Interpreter = "sh" },
			"set exactly one of content, contentFrom and source": func(s *v1alpha1.ExternalServiceSpec) {
				s.Files[0].Source = &v1alpha1.FileSource{URL: "https://a/b", SHA256: strings.Repeat("0", 64)}
			},
			"spec.files[0].source.url": func(s *v1alpha1.ExternalServiceSpec) {
				s.Files[0].Content, s.Files[0].Source = nil, &v1alpha1.FileSource{URL: "https://user:hunter2@a/b", SHA256: strings.Repeat("0", 64)}
			},
			"spec.files[0].source.sha256": func(s *v1alpha1.ExternalServiceSpec) {
				s.Files[0].Content, s.Files[0].Source = nil, &v1alpha1.FileSource{URL: "https://a/b", SHA256: "abc"}
			},
		} {
			object := w.ledger()
			schemaWithFile(&object.Spec)
			change(&object.Spec)
			Expect(live.Create(ctx, object, client.DryRunAll)).To(MatchError(ContainSubstring(want)))
		}
	})
})
