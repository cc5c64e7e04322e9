package linuxhost_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
)

// TestNode shows that a machine with Node has what a container runtime needs, that
// it sees the directories it was given, and that its image has another package.
func TestNode(t *testing.T) {
	ctx, n, j := testbed(t)
	dir := t.TempDir()
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.MkdirAll(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shared, "file"), []byte("from outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	m, err := linuxhost.Start(ctx, linuxhost.Options{
		Name: "node", Network: n, Janitor: j, Dir: dir, Progress: t.Output(), Node: true,
		Binds: []string{shared + ":/mnt/writable", shared + ":/mnt/readonly:ro"}, Packages: []string{"socat"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a node ready in %v", time.Since(start))
	if out := run(ctx, t, m, "cat", "/mnt/readonly/file"); out != "from outside" {
		t.Errorf("the shared file holds %q", out)
	}
	run(ctx, t, m, "touch", "/mnt/writable/inside")
	if _, err := os.Stat(filepath.Join(shared, "inside")); err != nil {
		t.Errorf("a file that was made inside: %v", err)
	}
	if out, err := m.Run(ctx, "touch", "/mnt/readonly/inside"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		t.Errorf("writing to a read-only directory: %q, %v", out, err)
	}
	run(ctx, t, m, "socat", "-V")
	run(ctx, t, m, "/bin/sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	run(ctx, t, m, "unshare", "--mount", "--pid", "--fork", "--net", "/bin/sh", "-c",
		"mount -t tmpfs none /mnt && ip link add one type veth peer name two && nft add table ip test")
}
