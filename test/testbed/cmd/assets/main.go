// Command assets prints the directory of etcd, kube-apiserver and kubectl that
// envtest shall use, and builds them first if need be:
//
//	KUBEBUILDER_ASSETS=$(go run ./test/testbed/cmd/assets) go test ./...
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	dir, err := controlplane.Assets(ctx, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "assets:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
