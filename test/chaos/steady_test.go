package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// steady: once all is as declared, nothing is written and nothing is done.
func steady(t *testing.T, w *world) {
	const quiet = 15 * time.Second
	w.calm(t)
	before, objects := w.effects(t), w.written(t)
	// Several intervals; that nothing happens has no condition to wait for.
	time.Sleep(quiet)
	w.wantUnwritten(t, objects)
	w.wantEffects(t, before)
	t.Logf("%d objects unchanged for %s", len(objects), quiet)
}

// calm waits until nothing was written for two intervals: the last words about
// what came before are not what is asked about.
func (w *world) calm(t *testing.T) {
	t.Helper()
	last, since := w.written(t), time.Now()
	for limit := time.Now().Add(patience); time.Since(since) < 2*interval; time.Sleep(interval / 4) {
		if now := w.written(t); !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
		if time.Now().After(limit) {
			t.Fatalf("something was written again and again for %s", patience)
		}
	}
}

// written are all objects that the operator writes, as they stand in the API server.
func (w *world) written(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, list := range []client.ObjectList{&v1alpha1.HostList{}, &v1alpha1.ExternalServiceList{}, &discoveryv1.EndpointSliceList{}} {
		if err := w.Client.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		err := meta.EachListItem(list, func(object runtime.Object) error {
			item := object.(client.Object)
			item.SetManagedFields(nil)
			text, err := json.MarshalIndent(item, "", " ")
			all[fmt.Sprintf("%T %s", item, item.GetName())] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// wantUnwritten compares objects with their resource versions, so that a write without a change counts too.
func (w *world) wantUnwritten(t *testing.T, before map[string]string) {
	t.Helper()
	for name, now := range w.written(t) {
		if now != before[name] {
			t.Errorf("%s was written: it was\n%s\nand is\n%s", name, before[name], now)
		}
	}
}
