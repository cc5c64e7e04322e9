package windows

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// stamp is what tells that a file has changed.
type stamp struct {
	size     int64
	modified string
}

// key is a path as CIM_DataFile spells it: Windows does not distinguish case.
func key(path string) string { return strings.ToLower(path) }

// maxCached bounds the cache; a host with more watched files pays for them with every pass.
const maxCached = 4096

// cache remembers, for the life of a machine value, what was read of a file
// with a stamp: the content of a state file, the digest of any other.
type cache struct {
	mu    sync.Mutex
	known map[string]cached
}

type cached struct {
	stamp stamp
	value string
}

func newCache() *cache { return &cache{known: map[string]cached{}} }

func (c *cache) get(path string, s stamp) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, found := c.known[key(path)]
	return entry.value, found && entry.stamp == s
}

func (c *cache) put(path string, s stamp, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxCached {
		clear(c.known)
	}
	c.known[key(path)] = cached{stamp: s, value: value}
}

// forget is for what this process itself has changed.
func (c *cache) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, key(path))
}

// stamps asks for files. What is not among the result is not there.
func (m *Machine) stamps(ctx context.Context, paths []string) (map[string]stamp, error) {
	literals, err := wqlStrings(paths)
	if err != nil {
		return nil, err
	}
	instances, err := m.selectEither(ctx, "SELECT Name,FileSize,LastModified FROM CIM_DataFile", "Name", literals)
	if err != nil {
		return nil, err
	}
	found := make(map[string]stamp, len(instances))
	for _, instance := range instances {
		size, err := strconv.ParseInt(instance.String("FileSize"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", instance.String("Name"), err)
		}
		found[key(instance.String("Name"))] = stamp{size: size, modified: instant(instance.String("LastModified"))}
	}
	return found, nil
}

// contents reads state files: one query tells which have changed, and one
// command reads those. The result is keyed by the paths as they were given.
func (m *Machine) contents(ctx context.Context, paths []string) (map[string]string, error) {
	found, err := m.stamps(ctx, paths)
	if err != nil {
		return nil, err
	}
	result := make(map[string]string, len(paths))
	var changed []string
	for _, path := range paths {
		s, exists := found[key(path)]
		if !exists {
			continue
		}
		if content, known := m.cache.get(path, s); known {
			result[path] = content
			continue
		}
		changed = append(changed, path)
	}
	read, err := m.typeFiles(ctx, changed)
	if err != nil {
		return nil, err
	}
	for path, content := range read {
		m.cache.put(path, found[key(path)], content)
		result[path] = content
	}
	return result, nil
}

// typeFiles reads files of one line each with cmd's type, many in one command:
// a line with the number of the file goes before its content. A file that is
// not there has no content. The paths are those that layout makes.
func (m *Machine) typeFiles(ctx context.Context, paths []string) (map[string]string, error) {
	result := map[string]string{}
	for len(paths) > 0 {
		line, n := typeLine(paths)
		output, err := m.remote.Run(ctx, winrm.Request{Command: line, MaxStdout: n * maxLine})
		if err != nil {
			return nil, err
		}
		maps.Copy(result, splitTyped(string(output.Stdout), paths[:n]))
		paths = paths[n:]
	}
	return result, nil
}

// typeLine reads as many of the paths as a command line has room for.
func typeLine(paths []string) (line string, n int) {
	for n < len(paths) {
		next := fmt.Sprintf("echo @%d& type %s 2>nul", n, quoted(paths[n]))
		if line != "" {
			next = line + "& " + next
		}
		if len(next) > maxLine {
			break
		}
		line = next
		n++
	}
	return line, n
}

func splitTyped(output string, paths []string) map[string]string {
	result := map[string]string{}
	current := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if number, found := strings.CutPrefix(line, "@"); found {
			if i, err := strconv.Atoi(number); err == nil && i >= 0 && i < len(paths) {
				current = paths[i]
				continue
			}
		}
		if line != "" && current != "" {
			result[current] = line
		}
	}
	return result
}

// digests answers for files of users: those whose stamp is new are hashed on the host.
func (m *Machine) digests(ctx context.Context, paths []string) (map[string]machine.Answer, error) {
	found, err := m.stamps(ctx, paths)
	if err != nil {
		return nil, err
	}
	result := make(map[string]machine.Answer, len(paths))
	var changed, missing []string
	for _, path := range paths {
		s, exists := found[key(path)]
		digest, known := m.cache.get(path, s)
		switch {
		case !exists:
			missing = append(missing, path)
		case known:
			result[key(path)] = machine.FileState{Kind: machine.FileRegular, SHA256: digest, Size: s.size}
		case !slices.ContainsFunc(changed, func(other string) bool { return key(other) == key(path) }):
			changed = append(changed, path)
		}
	}
	if err := m.answerMissing(ctx, missing, result); err != nil || len(changed) == 0 {
		return result, err
	}
	hashed, err := m.hash(ctx, changed)
	if err != nil {
		return nil, err
	}
	for _, path := range changed {
		s := found[key(path)]
		result[key(path)] = m.remember(path, s, hashed[key(path)])
	}
	return result, nil
}

// answerMissing tells what is not there from what is no file.
func (m *Machine) answerMissing(ctx context.Context, paths []string, result map[string]machine.Answer) error {
	literals, err := wqlStrings(paths)
	if err != nil {
		return err
	}
	directories, err := m.selectEither(ctx, "SELECT Name FROM Win32_Directory", "Name", literals)
	if err != nil {
		return err
	}
	for _, path := range paths {
		result[key(path)] = machine.FileState{Kind: machine.FileAbsent}
	}
	for _, directory := range directories {
		result[key(directory.String("Name"))] = machine.FileState{Kind: machine.FileDirectory}
	}
	return nil
}

// remember keeps the digest of a file, if it is that of the content with this
// stamp: a file that has another size meanwhile is asked for again.
func (m *Machine) remember(path string, s stamp, h hashed) machine.Answer {
	switch {
	case h.Error != "":
		return machine.Problem{Reason: hashReason(h.Code), Message: fmt.Sprintf("hash %s: %s", path, h.Error)}
	case h.Path == "":
		return machine.Problem{Reason: failed, Message: fmt.Sprintf("hash %s: the host gave no answer", path)}
	case !h.Exists:
		return machine.FileState{Kind: machine.FileAbsent}
	}
	if h.Size == s.size {
		m.cache.put(path, s, h.SHA256)
	}
	return machine.FileState{Kind: machine.FileRegular, SHA256: h.SHA256, Size: h.Size}
}

func hashReason(code string) string {
	if code == accessDenied {
		return accessDenied
	}
	return failed
}
