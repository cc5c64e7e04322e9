package chaos

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// killed kills the operator at random moments of an update.
func killed(t *testing.T, w *world) {
	const rounds = 8
	for round := range rounds {
		before, began, moment := w.effects(t), time.Now(), w.moment(900*time.Millisecond)
		w.change(t)
		// The moment is the disturbance: there is no condition to wait for.
		time.Sleep(moment)
		if err := w.Operator.Kill(); err != nil {
			t.Fatal(err)
		}
		at := w.phase(t, orders) + ", " + w.phase(t, ledger)
		if err := w.Operator.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.settled(t)
		t.Logf("round %d: SIGKILL after %s (%s), all Ready after %.1f s: %s", round+1, moment.Round(time.Millisecond), at,
			time.Since(began).Seconds(), w.history(t, began))
		w.wantEffects(t, before.restarted(1))
		if t.Failed() {
			return
		}
	}
}

// frozen freezes the leader in the middle of an update that another one then finishes.
func frozen(t *testing.T, w *world) {
	before, began, leader := w.effects(t), time.Now(), w.leader(t)
	old, successor := w.Operator, w.Operator.Another()
	w.operators = append(w.operators, successor)
	if err := successor.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.change(t)
	w.working(t, orders)
	moment := w.moment(150 * time.Millisecond)
	time.Sleep(moment)
	if err := old.Freeze(); err != nil {
		t.Fatal(err)
	}
	at := w.phase(t, orders) + ", " + w.phase(t, ledger)
	w.succeeded(t, leader)
	w.settled(t)
	t.Logf("SIGSTOP %s after the job was recorded (%s); the other operator finished it after %.1f s", moment.Round(time.Millisecond), at, time.Since(began).Seconds())
	w.wantEffects(t, before.restarted(1))
	w.wakes(t)
	w.wantEffects(t, before.restarted(1))
	w.Operator = successor
}

// wakes lets the frozen leader go on, and sees it end itself without a word to the hosts or the cluster.
func (w *world) wakes(t *testing.T) {
	t.Helper()
	objects, began := w.written(t), time.Now()
	if err := w.Operator.Thaw(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.Operator.Exited():
	case <-time.After(patience):
		t.Fatal("the old leader still runs")
	}
	t.Logf("the old leader ended itself %.1f s after SIGCONT", time.Since(began).Seconds())
	logs := w.Operator.Logs()
	content, err := os.ReadFile(logs[len(logs)-1])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "leader election lost") {
		t.Error("the old leader does not say why it ended")
	}
	w.wantUnwritten(t, objects)
}

// leader is who holds the Lease.
func (w *world) leader(t *testing.T) string {
	t.Helper()
	held := &coordinationv1.Lease{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: "isthmus-system", Name: "isthmus"}, held); err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(held.Spec.HolderIdentity, "")
}

// succeeded waits until somebody else leads.
func (w *world) succeeded(t *testing.T, leader string) {
	t.Helper()
	w.eventually(t, func() error {
		if now := w.leader(t); now == leader || now == "" {
			return fmt.Errorf("the leader is %q", now)
		}
		return nil
	})
}

// get reads a page of a service.
func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
