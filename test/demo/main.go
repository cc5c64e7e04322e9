// Command demo shows the main job of Isthmus on machines that it makes: see
// test/story for the steps. It leaves everything running for a look around,
// until Ctrl-C; with DEMO_EXIT=1 it ends after the last step. The exit status
// is 0 if and only if every step was seen to hold.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(demo(ctx))
}

func demo(ctx context.Context) int {
	began := time.Now()
	heading("Bringing up a control plane, a node, a Linux host and a Windows host")
	bed, err := story.Start(ctx, os.Stdout)
	if bed != nil {
		defer tidy(bed)
	}
	if err != nil {
		return failed(ctx, err)
	}
	fmt.Printf("  all up after %.0f s\n", time.Since(began).Seconds())
	for number, step := range story.Steps() {
		heading(fmt.Sprintf("%d. %s: %s", number+1, step.Name, step.Title))
		if err := step.Run(ctx, bed, os.Stdout); err != nil {
			return failed(ctx, err)
		}
	}
	heading(fmt.Sprintf("Every step held (%.0f s in all)", time.Since(began).Seconds()))
	if os.Getenv("DEMO_EXIT") == "1" {
		return 0
	}
	lookAround(ctx, bed)
	return 0
}

// lookAround brings the application back and leaves the bed to the user.
func lookAround(ctx context.Context, bed *story.Bed) {
	if err := bed.Again(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo: deploy the application again:", err)
	}
	fmt.Printf(`
The application is deployed again, and all of it is yours until Ctrl-C:

  export KUBECONFIG=%s
  export PATH=%s:$PATH
  kubectl -n shop get hosts,extsvc,happ
  kubectl -n shop describe extsvc shop-ledger
  kubectl -n shop get --raw /api/v1/namespaces/shop/services/gateway:http/proxy/cgi-bin/all
  kubectl -n shop edit happ shop

Logs of everything are in %s.
`, bed.ControlPlane.AdminKubeconfig(), bed.ControlPlane.Programs(), bed.Dir())
	<-ctx.Done()
}

func heading(text string) { fmt.Printf("\n\033[1m%s\033[0m\n", text) }

func failed(ctx context.Context, err error) int {
	if ctx.Err() != nil {
		fmt.Println("\ninterrupted")
		return 130
	}
	fmt.Fprintln(os.Stderr, "\ndemo: FAILED at", err)
	return 1
}

func tidy(bed *story.Bed) {
	fmt.Println("\ntidying up ...")
	if err := bed.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
}
