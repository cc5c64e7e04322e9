package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
)

const hybrid = `31 30 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:31 / /other rw,relatime - cgroup cgroup rw,cpu,cpuacct
`

func TestParse(t *testing.T) {
	all := parse(hybrid)
	if len(all) != 3 {
		t.Fatalf("%d hierarchies: %+v", len(all), all)
	}
	for field, mount := range map[string]string{
		"": "/sys/fs/cgroup/unified", "name=systemd": "/sys/fs/cgroup/systemd",
		"cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "",
	} {
		got := ""
		for _, h := range all {
			if h.is(field) {
				got += h.mount
			}
		}
		if got != mount {
			t.Errorf("field %q means %q, want %q", field, got, mount)
		}
	}
	if !all[0].unified || !all[1].named || all[2].named {
		t.Errorf("kinds: %+v", all)
	}
}

func TestGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("control groups need root")
		}
		t.Skip("control groups need root")
	}
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close() //nolint:errcheck // Remove is what is tested
	name := fmt.Sprintf("isthmus-test-%d", os.Getpid())
	g, err := New(j, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(j, name); err == nil {
		t.Error("a second group of the same name was made")
	}
	argv := g.Argv("/bin/sh", "-c", "setsid sleep 600 >/dev/null & cat /proc/self/cgroup; echo; exec sleep 600")
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it was killed
	membership := readUntilBlank(t, out)
	if in := strings.Count(membership, ":/"+name+"\n"); in != len(g.dirs) {
		t.Errorf("in %d groups of %d:\n%s", in, len(g.dirs), membership)
	}
	same, err := SameAs(cmd.Process.Pid, "cat", "/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := exec.Command(same[0], same[1:]...).Output(); err != nil || strings.TrimSpace(string(got)) != strings.TrimSpace(membership) {
		t.Errorf("SameAs is in\n%s(%v), want\n%s", got, err, membership)
	}
	pids, err := g.pids("")
	if err != nil || len(pids) < 2*len(g.dirs) {
		t.Errorf("processes %v (%v), want two in each group", pids, err)
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range g.dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if err := g.Signal(syscall.SIGKILL, ""); err != nil {
		t.Errorf("a signal to a group that is gone: %v", err)
	}
}

func readUntilBlank(t *testing.T, from interface{ Read([]byte) (int, error) }) string {
	t.Helper()
	var text strings.Builder
	buffer := make([]byte, 512)
	for !strings.HasSuffix(text.String(), "\n\n") {
		n, err := from.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(buffer[:n])
	}
	return strings.TrimSuffix(text.String(), "\n")
}
