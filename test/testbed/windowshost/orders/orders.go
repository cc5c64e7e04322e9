package orders

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
)

// source is the program.
//
//go:embed program/orders.c
var source []byte

// Config is the file that the service reads when it starts.
type Config struct {
	Port     int    `json:"port"`
	Region   string `json:"region,omitempty"`
	Greeting string `json:"greeting,omitempty"`
}

// Orders is what GET /orders answers.
type Orders struct {
	Service   string `json:"service"`
	Region    string `json:"region"`
	Greeting  string `json:"greeting"`
	PID       int    `json:"pid"`
	StartTime string `json:"startTime"` // of the process, RFC 3339 in UTC
	Served    int    `json:"served"`    // requests for orders since then
	Orders    []struct {
		ID   int    `json:"id"`
		Item string `json:"item"`
	} `json:"orders"`
}

// Build returns the path of orders.exe, which it builds once.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	sum := sha256.Sum256(source)
	dir, err := cache.Ensure(ctx, "orders-"+hex.EncodeToString(sum[:6]), progress, func(ctx context.Context, dir string) error {
		file := filepath.Join(dir, "orders.c")
		if err := os.WriteFile(file, source, 0o644); err != nil {
			return fmt.Errorf("build the orders service: %w", err)
		}
		return wine.Compile(ctx, progress, filepath.Join(dir, "orders.exe"), []string{file}, "-lws2_32", "-lshell32")
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "orders.exe"), nil
}
