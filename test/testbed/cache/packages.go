package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Packages makes sure that Debian packages are installed on this machine. It
// changes nothing if they are; otherwise it needs root. Processes that install
// at the same time take turns.
func Packages(ctx context.Context, progress io.Writer, names ...string) error {
	missing, err := notInstalled(ctx, names)
	if err != nil || len(missing) == 0 {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("installing the Debian packages %s needs root", strings.Join(missing, " "))
	}
	dir, err := Dir()
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(dir, ".packages.lock"), func() {
		say(progress, "waiting for another process that installs packages")
	})
	if err != nil {
		return fmt.Errorf("wait to install packages: %w", err)
	}
	defer unlock()
	if missing, err = notInstalled(ctx, names); err != nil || len(missing) == 0 {
		return err
	}
	done := report("packages "+strings.Join(missing, " "), progress)
	err = install(ctx, missing)
	done(err)
	return err
}

// notInstalled asks dpkg for each package by itself: asked for several, dpkg-query
// does not say which of them it does not know.
func notInstalled(ctx context.Context, names []string) ([]string, error) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return nil, fmt.Errorf("this part of the test bed needs Debian, for the packages %s", strings.Join(names, " "))
	}
	var missing []string
	for _, name := range names {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}\n", name).Output()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return nil, fmt.Errorf("ask for package %s: %w", name, err)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !bytes.Contains(append([]byte("\n"), out...), []byte("\ninstalled\n")) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// install updates the package lists first if there are none, or afterwards, for a
// second attempt, if they turn out to be too old.
func install(ctx context.Context, names []string) error {
	lists, err := filepath.Glob("/var/lib/apt/lists/*_Packages*")
	if err != nil {
		return fmt.Errorf("look for package lists: %w", err)
	}
	args := append([]string{"install", "-y", "--no-install-recommends"}, names...)
	if len(lists) > 0 {
		if err := apt(ctx, args...); err == nil || ctx.Err() != nil {
			return err
		}
	}
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return apt(ctx, args...)
}

// apt runs apt-get, which waits itself for a dpkg that somebody else is running.
func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], errors.Join(ctx.Err(), err), bytes.TrimSpace(out))
	}
	return nil
}
