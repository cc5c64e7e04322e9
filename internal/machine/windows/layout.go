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
func (l layout) ending(id string) string  { return l.job(id) + `\ending` }
func (l layout) epochs() string           { return l.dir + `\epoch` }

// blobs holds content that is staged, named by its digest, and downloads.
func (l layout) blobs() string             { return l.dir + `\blobs` }
func (l layout) blob(sha256 string) string { return l.blobs() + `\` + sha256 }

// scripts holds the read-only scripts of users, each in a directory named by its digest.
func (l layout) scripts() string             { return l.dir + `\scripts` }
func (l layout) script(digest string) string { return l.scripts() + `\` + digest }

// run is a file or directory of a job that belongs to the script of one of its steps.
func (l layout) run(id string, step int, name string) string {
	return fmt.Sprintf(`%s\%s-%d`, l.job(id), name, step)
}

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
