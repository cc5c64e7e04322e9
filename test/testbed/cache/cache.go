package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// heartbeat is how often a build that is under way says so. A variable for the tests.
var heartbeat = 15 * time.Second

// Dir returns the directory of the cache, which it creates if need be.
func Dir() (string, error) {
	dir := os.Getenv("ISTHMUS_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory (set ISTHMUS_CACHE): %w", err)
		}
		dir = filepath.Join(user, "isthmus")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	return dir, nil
}

// Ensure returns the directory that build has filled for key, a single path
// element that changes whenever the result would. If no complete one exists, it
// calls build with an empty directory and moves that into place when build
// returns nil. Of several processes that ask at once, one builds and the others
// wait. Progress goes to the writer, one line at a time; nothing is written when
// there is nothing to build.
func Ensure(ctx context.Context, key string, progress io.Writer, build func(ctx context.Context, dir string) error) (string, error) {
	if key == "" || key[0] == '.' || filepath.Base(key) != key {
		return "", fmt.Errorf("cache key %q is not a single path element", key)
	}
	cacheDir, err := Dir()
	if err != nil {
		return "", err
	}
	complete := filepath.Join(cacheDir, key)
	if isDir(complete) {
		return complete, nil
	}
	unlock, err := lock(ctx, filepath.Join(cacheDir, "."+key+".lock"), func() {
		say(progress, "waiting for another process that builds %s", key)
	})
	if err != nil {
		return "", fmt.Errorf("wait for the build of %s: %w", key, err)
	}
	defer unlock()
	if isDir(complete) {
		return complete, nil
	}
	partial := filepath.Join(cacheDir, "."+key+".partial")
	if err := buildInto(ctx, key, partial, progress, build); err != nil {
		return "", err
	}
	if err := os.Rename(partial, complete); err != nil {
		return "", fmt.Errorf("keep %s: %w", key, err)
	}
	return complete, nil
}

// buildInto runs build in an empty directory. The caller holds the lock of key,
// so whatever is in that directory was left by a process that has died.
func buildInto(ctx context.Context, key, dir string, progress io.Writer, build func(ctx context.Context, dir string) error) error {
	if err := removeTree(dir); err != nil {
		return fmt.Errorf("remove an interrupted build of %s: %w", key, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("build %s: %w", key, err)
	}
	done := report(key, progress)
	err := build(ctx, dir)
	if err == nil {
		// A build that overlooked its context must not pass for a finished one.
		err = ctx.Err()
	}
	done(err)
	if err != nil {
		return errors.Join(fmt.Errorf("build %s: %w", key, err), removeTree(dir))
	}
	return nil
}

// report announces a build and its heartbeat until the returned function is called.
func report(key string, progress io.Writer) func(error) {
	start := time.Now()
	elapsed := func() time.Duration { return time.Since(start).Round(time.Second) }
	say(progress, "building %s ...", key)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				say(progress, "building %s ... %s", key, elapsed())
			case <-stop:
				return
			}
		}
	}()
	return func(err error) {
		close(stop)
		<-stopped
		if err == nil {
			say(progress, "built %s in %s", key, elapsed())
		}
	}
}

func say(progress io.Writer, format string, args ...any) {
	if progress != nil {
		_, _ = fmt.Fprintf(progress, format+"\n", args...)
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
