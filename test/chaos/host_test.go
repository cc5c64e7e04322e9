package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// cutOff takes the Linux host off the network once a change is recorded.
func cutOff(t *testing.T, w *world) {
	before, began := w.effects(t), time.Now()
	w.change(t)
	execution := w.working(t, ledger)
	if err := w.Network.Cut(t.Context(), w.Linux.Address()); err != nil {
		t.Fatal(err)
	}
	at := w.phase(t, ledger)
	// How long the network is gone is the disturbance.
	time.Sleep(5 * time.Second)
	if err := w.Network.Heal(t.Context(), w.Linux.Address()); err != nil {
		t.Fatal(err)
	}
	w.settled(t)
	t.Logf("network lost for 5 s once job %s was %s (%s when cut), all Ready after %.1f s",
		execution.ID[:8], execution.State, at, time.Since(began).Seconds())
	w.wantEffects(t, before.restarted(1))
}

// rebooted reboots the Linux host while a job restarts the unit, which takes 3 s to start.
func rebooted(t *testing.T, w *world) {
	before, began := w.effects(t), time.Now()
	w.slow = true
	w.change(t)
	execution := w.working(t, ledger)
	w.activating(t)
	moment := w.moment(time.Second)
	time.Sleep(moment)
	at := w.phase(t, ledger)
	if err := w.Linux.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.settled(t)
	record := w.outcome(t, execution.ID)
	starts := count(w.linux(t, "sh", "-c", "journalctl --sync && journalctl --boot --no-pager --output=cat UNIT=ledger.service"), "Started ledger.service")
	t.Logf("reboot %s after the unit began to start (%s): job %s is recorded as %s, %d starts since the boot, all Ready after %.1f s",
		moment.Round(time.Millisecond), at, execution.ID[:8], record.Outcome, starts, time.Since(began).Seconds())
	if starts < 1 || starts > 2 {
		t.Errorf("the ledger was started %d times since the boot, want systemd's own start and at most one restart", starts)
	}
	if starts == 2 && record.Outcome == v1alpha1.ExecutionSucceeded {
		t.Error("the ledger was restarted although its job is recorded as done")
	}
	w.newest(t)
	if now := w.effects(t); now.ordersStarts != before.ordersStarts+1 || now.ordersStops != before.ordersStops+1 {
		t.Errorf("the records of the other machine went from %+v to %+v, want one restart", before, now)
	}
}

// activating waits until systemd is starting the unit.
func (w *world) activating(t *testing.T) {
	t.Helper()
	w.eventually(t, func() error {
		if state := strings.TrimSpace(w.linux(t, "systemctl", "show", "-p", "ActiveState", "--value", "ledger.service")); state != "activating" {
			return fmt.Errorf("the unit is %s", state)
		}
		return nil
	})
}

// outcome is the record of a job in the history, where each job is exactly once.
func (w *world) outcome(t *testing.T, id string) v1alpha1.ExecutionRecord {
	t.Helper()
	var found []v1alpha1.ExecutionRecord
	history := w.service(t, ledger).Status.History
	for _, record := range history {
		if record.ID == id {
			found = append(found, record)
		}
	}
	if len(found) != 1 {
		t.Fatalf("job %s is %d times in the history, want once: %+v", id, len(found), history)
	}
	return found[0]
}

// changedAgain changes the specs again while the first change is being carried out.
func changedAgain(t *testing.T, w *world) {
	before, began := w.effects(t), time.Now()
	w.change(t)
	w.working(t, orders)
	w.working(t, ledger)
	w.activating(t)
	at := w.phase(t, orders) + ", " + w.phase(t, ledger)
	w.change(t)
	w.settled(t)
	after := w.effects(t)
	t.Logf("changed again when %s: ledger started %d times, orders %d times, all Ready after %.1f s", at,
		after.ledgerStarts-before.ledgerStarts, after.ordersStarts-before.ordersStarts, time.Since(began).Seconds())
	for _, restarts := range []int{
		after.ledgerStarts - before.ledgerStarts, after.ledgerReads - before.ledgerReads,
		after.ordersStarts - before.ordersStarts, after.ordersStops - before.ordersStops,
	} {
		if restarts < 1 || restarts > 2 {
			t.Errorf("the records went from %+v to %+v, want one or two restarts", before, after)
		}
	}
	w.newest(t)
}
