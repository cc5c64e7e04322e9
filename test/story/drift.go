package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
)

// interval is what the sample declares for its external services; correcting
// takes a moment on top: a job on the host, and starting the service. On a machine that
// does other things as well the moment is long; how long it took is told.
const (
	interval = 5 * time.Second
	patience = 30 * time.Second
)

const unitFile = "/etc/systemd/system/ledger.service"

// runDrift is somebody at the console of each machine.
func runDrift(ctx context.Context, b *Bed, tell Teller) error {
	if err := b.Windows.Control(ctx, windowshost.StopService, "Orders"); err != nil {
		return err
	}
	tell.Say("somebody stopped the service Orders on the Windows host")
	if _, err := b.Linux.Run(ctx, "sh", "-c", "echo '# edited by hand' >>"+unitFile+" && systemctl daemon-reload"); err != nil {
		return err
	}
	tell.Say("somebody edited %s on the Linux host", unitFile)
	corrected := time.Now()
	err := wait(ctx, interval+patience, func(ctx context.Context) error {
		return errors.Join(b.ordersRuns(ctx), b.unitFileIsOurs(ctx))
	})
	if err != nil {
		return err
	}
	tell.Say("both are back after %.1f s (interval %s)", time.Since(corrected).Seconds(), interval)
	if err := b.allReady(ctx, 30*time.Second); err != nil {
		return err
	}
	b.show(ctx, tell, "get", "events.events.k8s.io", "--field-selector=reportingController=isthmus", "--sort-by=.metadata.creationTimestamp",
		"-o", "custom-columns=OBJECT:.regarding.name,REASON:.reason,NOTE:.note")
	return nil
}

// ordersRuns asks the Windows host's own service manager.
func (b *Bed) ordersRuns(ctx context.Context) error {
	state, err := b.windowsState(ctx, "Orders")
	if err != nil {
		return err
	}
	if state != "Running" {
		return fmt.Errorf("the service Orders is %s", state)
	}
	return nil
}

// unitFileIsOurs reads the file on the host.
func (b *Bed) unitFileIsOurs(ctx context.Context) error {
	content, err := b.Linux.Run(ctx, "cat", unitFile)
	if err != nil {
		return err
	}
	if strings.Contains(string(content), "edited by hand") {
		return fmt.Errorf("%s still has the edit", unitFile)
	}
	return nil
}
