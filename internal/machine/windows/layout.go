package windows

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// layout knows the names of the state files. All of them are safe to quote:
// the directory is checked, and what is added to it is made of letters, digits
// and dashes.
type layout struct{ dir string }

func newLayout(dir string) (layout, error) {
	if err := checkPath(dir); err != nil {
		return layout{}, fmt.Errorf("state directory: %w", err)
	}
	return layout{dir: dir}, nil
}

func (l layout) marks() string { return l.dir + `\marks` }

// mark is named by a digest, because a subject may be longer than a file name
// and holds characters that a file name does not. Subjects differ in no more
// than what Windows distinguishes.
func (l layout) mark(subject machine.Subject) string {
	sum := sha256.Sum256([]byte(strings.ToLower(string(subject))))
	return l.marks() + `\` + hex.EncodeToString(sum[:16]) + ".json"
}

func (l layout) jobs() string             { return l.dir + `\jobs` }
func (l layout) job(id string) string     { return l.jobs() + `\` + id }
func (l layout) started(id string) string { return l.job(id) + `\started` }
func (l layout) exit(id string) string    { return l.job(id) + `\exit` }
func (l layout) epochs() string           { return l.dir + `\epoch` }

// epochDigits hold every int64.
const epochDigits = 19

func (l layout) epoch(number int64) string {
	return l.epochs() + `\` + fmt.Sprintf("%0*d", epochDigits, number)
}

var jobID = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func checkJobID(id string) error {
	if !jobID.MatchString(id) {
		return fmt.Errorf("job id %q: want %s", id, jobID)
	}
	return nil
}

// quoted is for the names that layout makes.
func quoted(path string) string { return `"` + path + `"` }
