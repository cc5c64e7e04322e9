package story

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/cim"
)

// rounds of update and SIGKILL; each kills the operator at another moment of its work.
var rounds = []struct {
	region, currency string
	after            time.Duration // from the first recorded execution to the kill
}{
	{"east", "USD", 0},
	{"south", "JPY", 150 * time.Millisecond},
	{"west", "CHF", 600 * time.Millisecond},
}

// runCrash updates both services and kills the operator in the middle, three times.
func runCrash(ctx context.Context, b *Bed, tell Teller) error {
	for i, round := range rounds {
		effects, err := b.count(ctx)
		if err != nil {
			return err
		}
		if err := b.update(ctx, round.region, round.currency); err != nil {
			return err
		}
		if err := b.killDuringWork(ctx, tell, round.after); err != nil {
			return err
		}
		if err := b.Operator.Start(ctx); err != nil {
			return err
		}
		if err := b.updated(ctx, round.region, round.currency); err != nil {
			return fmt.Errorf("after kill %d: %w", i+1, err)
		}
		if err := b.onceEach(ctx, tell, effects); err != nil {
			return fmt.Errorf("after kill %d: %w", i+1, err)
		}
	}
	return nil
}

// update is a user's edit of the application: new contents for both machines, each of which means one restart.
func (b *Bed) update(ctx context.Context, region, currency string) error {
	app, err := b.app(ctx)
	if err != nil {
		return err
	}
	patch := client.MergeFrom(app.DeepCopy())
	for i := range app.Spec.Components {
		external := app.Spec.Components[i].External
		if external == nil {
			continue
		}
		spec := &v1alpha1.ExternalServiceSpec{}
		if err := json.Unmarshal(external.Raw, spec); err != nil {
			return err
		}
		switch app.Spec.Components[i].Name {
		case "orders":
			content := fmt.Sprintf(`{"port": 8080, "region": %q}`, region)
			spec.Files[0].Content = &content
		case "ledger":
			definition := description.ReplaceAllString(*spec.Systemd.Definition, "Description=Ledger in "+currency)
			spec.Systemd.Definition = &definition
		}
		if external.Raw, err = json.Marshal(spec); err != nil {
			return err
		}
	}
	return b.Client.Patch(ctx, app, patch)
}

var description = regexp.MustCompile(`Description=.*`)

// killDuringWork waits until the operator has recorded that it is about to change a host.
func (b *Bed) killDuringWork(ctx context.Context, tell Teller, after time.Duration) error {
	working := ""
	err := wait(ctx, 30*time.Second, func(ctx context.Context) error {
		for _, name := range []string{ordersService, ledgerService} {
			service, err := b.service(ctx, name)
			if err != nil {
				return err
			}
			if service.Status.Execution != nil {
				working = fmt.Sprintf("%s had job %s %s", name, service.Status.Execution.ID[:8], service.Status.Execution.State)
				return nil
			}
		}
		return fmt.Errorf("no execution is recorded")
	})
	if err != nil {
		return err
	}
	time.Sleep(after)
	if err := b.Operator.Kill(); err != nil {
		return err
	}
	tell.Say("SIGKILL %s after %s", after, working)
	return nil
}

// updated waits until both machines run what the edit says.
func (b *Bed) updated(ctx context.Context, region, currency string) error {
	err := wait(ctx, 90*time.Second, func(ctx context.Context) error {
		page, err := b.gateway(ctx)
		if err != nil {
			return err
		}
		if err := contains(page, region); err != nil {
			return err
		}
		description, err := b.unit(ctx, "Description")
		if err != nil {
			return err
		}
		return contains(description, currency)
	})
	if err != nil {
		return err
	}
	return b.allReady(ctx, 60*time.Second)
}

// effects counts what happened on the machines, by their own records.
type effects struct{ ordersStarts, ordersStops, ledgerStarts int }

func (b *Bed) count(ctx context.Context) (effects, error) {
	var counted effects
	journal, err := b.Windows.Journal()
	if err != nil {
		return counted, err
	}
	for _, event := range journal {
		if !strings.EqualFold(event.Name, "Orders") {
			continue
		}
		switch event.Verb {
		case cim.Start:
			counted.ordersStarts++
		case cim.Stop:
			counted.ordersStops++
		}
	}
	counted.ledgerStarts, err = b.ledgerStarts(ctx)
	return counted, err
}

// onceEach compares the machines' own records: one restart of each service since before.
func (b *Bed) onceEach(ctx context.Context, tell Teller, before effects) error {
	after, err := b.count(ctx)
	if err != nil {
		return err
	}
	got := effects{after.ordersStarts - before.ordersStarts, after.ordersStops - before.ordersStops, after.ledgerStarts - before.ledgerStarts}
	if want := (effects{1, 1, 1}); got != want {
		return fmt.Errorf("the machines' records show %+v since the update, want %+v", got, want)
	}
	tell.Say("restarted operator finished the update: Orders stopped and started once, ledger started once")
	return nil
}
