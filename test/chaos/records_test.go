package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/cim"
)

const (
	ordersFile = `C:\Orders\orders.json`
	ledgerFile = "/srv/ledger/ledger.json"
	unitFile   = "/etc/systemd/system/ledger.service"
	unitLink   = "/etc/systemd/system/multi-user.target.wants/ledger.service"
	// startsFile is where the unit writes down what it starts with.
	startsFile = "/var/log/ledger-starts"
)

// effects is what the machines' own records tell of what was done to them.
type effects struct {
	ledgerStops, ledgerStarts int // systemd's journal
	ledgerReads               int // the unit's own record of its starts
	ordersStops, ordersStarts int // the journal of the Windows host
	ordersCreated             int // with what was deleted
	enabled                   string
}

// effects reads the records.
func (w *world) effects(t *testing.T) effects {
	t.Helper()
	journal := w.linux(t, "sh", "-c", "journalctl --sync && journalctl --no-pager --output=cat UNIT=ledger.service")
	seen := effects{
		ledgerStops:  count(journal, "Stopped ledger.service"),
		ledgerStarts: count(journal, "Started ledger.service"),
		ledgerReads:  len(w.starts(t)),
		enabled:      w.linux(t, "stat", "-c", "%i %Y", unitLink),
	}
	events, err := w.Windows.Journal()
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		if strings.EqualFold(event.Name, "Orders") {
			seen.add(event.Verb)
		}
	}
	return seen
}

func (e *effects) add(verb string) {
	switch verb {
	case cim.Start:
		e.ordersStarts++
	case cim.Stop:
		e.ordersStops++
	case cim.Create, cim.Delete:
		e.ordersCreated++
	}
}

func count(lines, prefix string) int {
	n := 0
	for line := range strings.Lines(lines) {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// restarted is what the records must show after n restarts of each service, and nothing else.
func (e effects) restarted(n int) effects {
	e.ledgerStops, e.ledgerStarts, e.ledgerReads = e.ledgerStops+n, e.ledgerStarts+n, e.ledgerReads+n
	e.ordersStops, e.ordersStarts = e.ordersStops+n, e.ordersStarts+n
	return e
}

// wantEffects compares the records, and that both machines hold the newest contents.
func (w *world) wantEffects(t *testing.T, want effects) {
	t.Helper()
	if got := w.effects(t); got != want {
		t.Errorf("the machines' records show %+v, want %+v", got, want)
	}
	w.newest(t)
}

// newest looks for the newest contents: on disk, and in what the services were started with.
func (w *world) newest(t *testing.T) {
	t.Helper()
	path, err := w.Windows.Path(ordersFile)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.same(t, ordersFile, string(content), w.ordersContent())
	w.same(t, ledgerFile, w.linux(t, "cat", ledgerFile), w.ledgerContent())
	w.same(t, unitFile, w.linux(t, "cat", unitFile), w.definition())
	w.same(t, "the loaded unit", w.linux(t, "systemctl", "show", "-p", "Description", "--value", "ledger.service"),
		fmt.Sprintf("Ledger revision-%d\n", w.revision))
	starts := w.starts(t)
	w.same(t, "what the ledger was last started with", starts[len(starts)-1]+"\n", w.ledgerContent())
	if page := get(t, "http://"+w.Windows.Address()+":8080/orders"); !strings.Contains(page, fmt.Sprintf(`"revision-%d"`, w.revision)) {
		t.Errorf("the orders service answers %s, want revision-%d", page, w.revision)
	}
}

func (w *world) same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}

// starts are the contents that the ledger was started with, oldest first.
func (w *world) starts(t *testing.T) []string {
	t.Helper()
	return strings.Split(strings.TrimSpace(w.linux(t, "cat", startsFile)), "\n")
}

// neverBack: no start of the ledger was with an older content than the one before it.
func (w *world) neverBack(t *testing.T) {
	var revisions []int
	for _, start := range w.starts(t) {
		var revision int
		if _, err := fmt.Sscanf(start, `{"revision": %d}`, &revision); err != nil {
			t.Fatalf("the ledger was started with %q", start)
		}
		revisions = append(revisions, revision)
	}
	if !slices.IsSorted(revisions) {
		t.Errorf("the ledger was started with the revisions %v: an older one came after a newer one", revisions)
	}
	t.Logf("the ledger was started with the revisions %v", revisions)
}

// linux runs a command on the Linux host, as its administrator.
func (w *world) linux(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := w.Linux.Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
