package linuxhost

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// release is the Debian release of the machines.
const release = "bookworm"

// revision is part of the keys of images; it changes when seal does.
const revision = "r2"

// networkUnit configures the interface of a machine at boot. systemd-networkd
// would not: where /sys is writable it waits for udev, which no machine here has.
const networkUnit = "testbed-network.service"

// basePackages is what every machine has. No interpreter but the shell is among
// them: Isthmus may not assume one.
var basePackages = []string{
	"dbus", "iproute2", "nftables", "openssh-server", "procps", "sudo", "systemd", "systemd-sysv",
}

// mirror is where this machine has its own Debian packages from, if it says;
// otherwise debootstrap's default for the release serves.
func mirror(ctx context.Context) []string {
	if url := os.Getenv("ISTHMUS_DEBIAN_MIRROR"); url != "" {
		return []string{url}
	}
	targets, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(targets)) {
		if url, ours := strings.CutPrefix(strings.TrimSpace(line), release+" "); ours {
			return []string{url}
		}
	}
	return nil
}

// builder makes images. Its programs run under the janitor.
type builder struct {
	janitor  *janitor.Janitor
	logs     string // directory of the programs' logs
	progress io.Writer
}

// image returns the root directory of an image with the base packages and more.
func (b *builder) image(ctx context.Context, more []string) (string, error) {
	base, err := cache.Ensure(ctx, imageKey(basePackages), b.progress, b.bootstrap)
	if err != nil {
		return "", err
	}
	more = slices.Compact(slices.Sorted(slices.Values(more)))
	more = slices.DeleteFunc(more, func(name string) bool { return slices.Contains(basePackages, name) })
	if len(more) == 0 {
		return filepath.Join(base, "root"), nil
	}
	all := slices.Concat(basePackages, more)
	dir, err := cache.Ensure(ctx, imageKey(all), b.progress, func(ctx context.Context, dir string) error {
		return b.extend(ctx, filepath.Join(base, "root"), dir, more)
	})
	return filepath.Join(dir, "root"), err
}

// imageKey names the release, the architecture and the set of packages.
func imageKey(packages []string) string {
	sum := sha256.Sum256([]byte(strings.Join(packages, " ") + " " + revision))
	return fmt.Sprintf("debian-%s-%s-%x", release, runtime.GOARCH, sum[:6])
}

// bootstrap makes an image from nothing, in the directory root of dir.
func (b *builder) bootstrap(ctx context.Context, dir string) error {
	root := filepath.Join(dir, "root")
	argv := []string{"debootstrap", "--variant=minbase", "--include=" + strings.Join(basePackages, ","), release, root}
	if err := b.run(ctx, dir, append(argv, mirror(ctx)...)...); err != nil {
		return err
	}
	if err := seal(root); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "packages"), []byte(strings.Join(basePackages, "\n")+"\n"), 0o644)
}

// extend makes an image from a smaller one and further packages. apt, unlike
// debootstrap, understands every kind of dependency.
func (b *builder) extend(ctx context.Context, base, dir string, packages []string) error {
	root := filepath.Join(dir, "root")
	if err := b.run(ctx, dir, "cp", "-a", "--reflink=auto", base, root); err != nil {
		return err
	}
	// What is installed must not be started here (policy-rc.d, invoke-rc.d(8)).
	policy := filepath.Join(root, "usr/sbin/policy-rc.d")
	if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	install := "apt-get -q update && apt-get -q -y --no-install-recommends install " + strings.Join(packages, " ")
	err := b.run(ctx, dir, "systemd-nspawn", "--quiet", "-D", root, "--machine=isthmus-image",
		"--register=no", "--keep-unit", "--as-pid2", "--pipe", "--resolv-conf=replace-host", "--timezone=off",
		"--setenv=DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-c", install)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Remove(policy), seal(root)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "packages"), []byte(strings.Join(packages, "\n")+"\n"), 0o644)
}

// run runs a program to its end under the janitor.
func (b *builder) run(ctx context.Context, dir string, argv ...string) error {
	// debootstrap mounts proc in what it builds.
	if err := b.janitor.Mount(dir); err != nil {
		return err
	}
	p, err := process.Start(b.janitor, b.logs, "image-"+filepath.Base(argv[0]), []string{"LC_ALL=C"}, argv...)
	if err != nil {
		return err
	}
	select {
	case <-p.Exited():
	case <-ctx.Done():
		over, cancel := context.WithCancel(context.Background())
		cancel()
		return errors.Join(ctx.Err(), p.Stop(over))
	}
	if p.ExitCode() != 0 {
		return p.Err()
	}
	return nil
}

// seal takes out of an image what must differ between machines, and what only
// makes it larger, and has it configure its network at boot.
func seal(root string) error {
	var remove []string
	for _, pattern := range []string{"etc/ssh/ssh_host_*", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "var/log/*.log"} {
		matches, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		remove = append(remove, matches...)
	}
	remove = append(remove, filepath.Join(root, "etc/machine-id"), filepath.Join(root, "etc/resolv.conf"))
	for _, path := range remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"etc/systemd/system/multi-user.target.wants/" + networkUnit: "/etc/systemd/system/" + networkUnit,
		// Nobody is there to log in on a console, or to read a report of upgrades.
		"etc/systemd/system/console-getty.service":   "/dev/null",
		"etc/systemd/system/apt-daily.timer":         "/dev/null",
		"etc/systemd/system/apt-daily-upgrade.timer": "/dev/null",
	} {
		path := filepath.Join(root, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}
