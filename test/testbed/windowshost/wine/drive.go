package wine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrPath is a path that is not one of a file on the C: drive.
var ErrPath = errors.New("not a path on the drive C")

// Path is the Linux path of a file on the C: drive. Names are compared without
// regard to case, as Windows does; of what does not exist yet the last elements
// are taken as they are written.
func (m *Machine) Path(windows string) (string, error) {
	elements, err := split(windows)
	if err != nil {
		return "", err
	}
	path := m.drive()
	for i, element := range elements {
		name, err := lookup(path, element)
		if err != nil {
			return "", err
		}
		if name == "" {
			return filepath.Join(append([]string{path}, elements[i:]...)...), nil
		}
		path = filepath.Join(path, name)
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return "", fmt.Errorf("%w: %s leads through a link", ErrPath, windows)
		}
	}
	return path, nil
}

// split cuts a path into its elements and refuses all but plain absolute ones.
func split(windows string) ([]string, error) {
	path := strings.ReplaceAll(windows, "/", `\`)
	if len(path) < 3 || !strings.EqualFold(path[:3], `C:\`) {
		return nil, fmt.Errorf("%w: %q", ErrPath, windows)
	}
	var elements []string
	for element := range strings.SplitSeq(path[3:], `\`) {
		switch {
		case element == "":
		case element == "." || element == ".." || strings.ContainsAny(element, "<>:\"|?*\x00"):
			return nil, fmt.Errorf("%w: %q", ErrPath, windows)
		default:
			elements = append(elements, element)
		}
	}
	return elements, nil
}

// lookup finds the entry of a directory whose name is element but for case; "" if there is none.
func lookup(dir, element string) (string, error) {
	if _, err := os.Lstat(filepath.Join(dir, element)); err == nil {
		return element, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		// A file where a directory should be: there is nothing below it.
		return "", nil //nolint:nilerr // see above
	}
	for _, entry := range entries {
		if strings.EqualFold(entry.Name(), element) {
			return entry.Name(), nil
		}
	}
	return "", nil
}
