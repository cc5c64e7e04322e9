package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/story"
)

const (
	namespace = "shop"
	orders    = "orders" // on the Windows host
	ledger    = "ledger" // on the Linux host

	// patience is for the slowest machine: nothing here asserts a speed.
	patience = 90 * time.Second
	interval = 2 * time.Second
)

// world is the bed with the two services, whose contents hold a revision that only grows.
type world struct {
	*story.Bed
	random    *rand.Rand
	operators []*story.Operator
	revision  int
	// slow makes the ledger take a while to start.
	slow bool
}

// install declares both services at revision 0.
func (w *world) install(t *testing.T) {
	t.Helper()
	for _, service := range []*v1alpha1.ExternalService{w.orders(), w.ledger()} {
		if err := w.Client.Create(t.Context(), service); err != nil {
			t.Fatal(err)
		}
	}
	w.settled(t)
}

// orders is a Windows service that reads its file when it starts.
func (w *world) orders() *v1alpha1.ExternalService {
	return declared(orders, v1alpha1.ExternalServiceSpec{
		HostRef: v1alpha1.HostReference{Name: "orders-win"},
		Files:   []v1alpha1.File{{Path: ordersFile, Content: ptr.To(w.ordersContent()), RestartOnChange: true}},
		WindowsService: &v1alpha1.WindowsService{
			Name: "Orders", BinaryPath: ptr.To(`C:\Orders\orders.exe ` + ordersFile), StartMode: "Automatic",
		},
	}, 8080, "/healthz")
}

// ledger is a systemd unit, whose definition means a restart as well as its file does.
func (w *world) ledger() *v1alpha1.ExternalService {
	return declared(ledger, v1alpha1.ExternalServiceSpec{
		HostRef: v1alpha1.HostReference{Name: "ledger-vm"},
		Files:   []v1alpha1.File{{Path: ledgerFile, Content: ptr.To(w.ledgerContent()), RestartOnChange: true, Mode: "0644"}},
		Systemd: &v1alpha1.Systemd{Unit: "ledger.service", Definition: ptr.To(w.definition()), Enabled: ptr.To(true)},
	}, 9090, "/ledger.json")
}

func declared(name string, spec v1alpha1.ExternalServiceSpec, port int32, page string) *v1alpha1.ExternalService {
	spec.Interval = &metav1.Duration{Duration: interval}
	spec.Readiness = &v1alpha1.Readiness{
		HTTP:     &v1alpha1.HTTPProbe{Port: port, Path: page},
		Interval: &metav1.Duration{Duration: time.Second},
	}
	spec.Ports = []v1alpha1.ServicePort{{Name: "http", Port: 80, TargetPort: port}}
	spec.Expose = &v1alpha1.Expose{}
	return &v1alpha1.ExternalService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
}

func (w *world) ordersContent() string {
	return fmt.Sprintf(`{"port": 8080, "region": "revision-%d"}`, w.revision)
}

func (w *world) ledgerContent() string { return fmt.Sprintf("{\"revision\": %d}\n", w.revision) }

// definition has the unit itself write down each start, with what it started with.
func (w *world) definition() string {
	pause := ""
	if w.slow {
		pause = "ExecStartPre=/bin/sleep 3\n"
	}
	return fmt.Sprintf(`[Unit]
Description=Ledger revision-%d
After=network.target

[Service]
ExecStartPre=/bin/sh -c 'cat %s >>%s'
%sExecStart=/bin/busybox httpd -f -p 9090 -h /srv/ledger
Restart=on-failure

[Install]
WantedBy=multi-user.target
`, w.revision, ledgerFile, startsFile, pause)
}

// change is a user's edit of both services: new contents, each of which means one restart.
func (w *world) change(t *testing.T) {
	t.Helper()
	w.revision++
	for _, want := range []*v1alpha1.ExternalService{w.orders(), w.ledger()} {
		existing := w.service(t, want.Name)
		patch := client.MergeFrom(existing.DeepCopy())
		existing.Spec.Files[0].Content = want.Spec.Files[0].Content
		if want.Spec.Systemd != nil {
			existing.Spec.Systemd.Definition = want.Spec.Systemd.Definition
		}
		if err := w.Client.Patch(t.Context(), existing, patch); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) service(t *testing.T, name string) *v1alpha1.ExternalService {
	t.Helper()
	object := &v1alpha1.ExternalService{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		t.Fatal(err)
	}
	return object
}

// settled waits until both services are Ready at their newest generation.
func (w *world) settled(t *testing.T) {
	t.Helper()
	w.eventually(t, func() error {
		for _, name := range []string{orders, ledger} {
			if err := ready(w.service(t, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func ready(service *v1alpha1.ExternalService) error {
	if service.Status.ObservedGeneration != service.Generation {
		return fmt.Errorf("%s: status speaks of generation %d, the spec is at %d",
			service.Name, service.Status.ObservedGeneration, service.Generation)
	}
	condition := meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ReadyCondition)
	if condition == nil || condition.Status != metav1.ConditionTrue {
		return fmt.Errorf("%s is not Ready: %+v", service.Name, condition)
	}
	return nil
}

// working waits until the operator has recorded that it is about to change a host.
func (w *world) working(t *testing.T, name string) *v1alpha1.Execution {
	t.Helper()
	var execution *v1alpha1.Execution
	w.eventually(t, func() error {
		execution = w.service(t, name).Status.Execution
		if execution == nil {
			return fmt.Errorf("%s has no execution", name)
		}
		return nil
	})
	return execution
}

// eventually asks until check is content. The last complaint is the failure.
func (w *world) eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", patience, err)
		case <-ticker.C:
		}
	}
}

// moment is a random time below a limit.
func (w *world) moment(limit time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(limit)))
}

// phase says how far a service has come, for the log.
func (w *world) phase(t *testing.T, name string) string {
	t.Helper()
	service := w.service(t, name)
	switch {
	case service.Status.Execution != nil:
		return fmt.Sprintf("%s %s", name, service.Status.Execution.State)
	case ready(service) == nil:
		return name + " done"
	}
	return name + " untouched"
}

// history tells what became of the jobs that ended after a time, for the log.
func (w *world) history(t *testing.T, since time.Time) string {
	t.Helper()
	var told []string
	for _, name := range []string{orders, ledger} {
		for _, record := range slices.Backward(w.service(t, name).Status.History) {
			// Recorded times have whole seconds.
			if !record.FinishedAt.Time.Before(since.Truncate(time.Second)) {
				told = append(told, fmt.Sprintf("%s %s %s", name, record.Reason, record.Outcome))
			}
		}
	}
	return strings.Join(told, ", ")
}
