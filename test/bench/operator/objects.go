package operator

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/bench/target"
)

// writers is how many requests of a user are under way at once.
const writers = 16

// never is the longest interval of a Host: during a measurement nothing is looked at unasked.
const never = time.Hour

// Credentials writes the Secret that all Hosts name.
func (c *Cluster) Credentials(ctx context.Context, bed *target.Bed) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: credentials},
		Data:       map[string][]byte{"username": []byte(bed.User), "ssh-privatekey": bed.PrivateKey},
	}
	if err := client.IgnoreNotFound(c.Client.Delete(ctx, secret.DeepCopy())); err != nil {
		return err
	}
	return c.Client.Create(ctx, secret)
}

// HostFor is the Host of a target.
func HostFor(h *target.Host) *v1alpha1.Host {
	return &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: h.Name},
		Spec: v1alpha1.HostSpec{
			Address: h.Address, OS: v1alpha1.Linux, StateDirectory: h.StateDir,
			SSH:            &v1alpha1.SSHTransport{Port: int32(h.Port), HostKeys: []string{h.HostKey}},
			CredentialsRef: v1alpha1.LocalReference{Name: credentials},
			Probe:          v1alpha1.HostProbe{Interval: &metav1.Duration{Duration: never}},
		},
	}
}

// ServicesFor are the ExternalServices of a target: a service with its two files, and a component.
func ServicesFor(h *target.Host) []*v1alpha1.ExternalService {
	var services []*v1alpha1.ExternalService
	for _, script := range h.Scripts() {
		service := &v1alpha1.ExternalService{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: h.Name + "-" + script.Name},
			Spec: v1alpha1.ExternalServiceSpec{
				HostRef:  v1alpha1.HostReference{Name: h.Name},
				Interval: &metav1.Duration{Duration: never},
				Script: &v1alpha1.Script{
					Observe: script.Check, Apply: script.Change, Remove: script.Remove, Idempotent: true,
				},
			},
		}
		if script.Name == target.Service {
			service.Spec.Files = filesFor(h)
		}
		services = append(services, service)
	}
	return services
}

func filesFor(h *target.Host) []v1alpha1.File {
	var files []v1alpha1.File
	for _, file := range h.Files() {
		files = append(files, v1alpha1.File{Path: file.Path, Content: &file.Content, Mode: file.Mode})
	}
	return files
}

// all writes objects, several at once.
func all[T client.Object](ctx context.Context, objects []T, write func(ctx context.Context, object T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, object := range objects {
		group.Go(func() error {
			if err := write(ctx, object); err != nil {
				return fmt.Errorf("write %T %s: %w", object, object.GetName(), err)
			}
			return nil
		})
	}
	return group.Wait()
}
