package posix

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// base64Line is the length of a line of encoded content, as in RFC 2045.
const base64Line = 76

// accountName is a name or a number of a user or group.
var accountName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?$`)

// delivery is what all the ways to put a file in place have in common.
type delivery struct {
	path, digest string
	mode         uint32
	owner, group string
}

func (d delivery) check() error {
	switch {
	case validPath(d.path) != nil:
		return validPath(d.path)
	case !sha256Hex.MatchString(d.digest):
		return errors.New("the digest is not a SHA-256 in lower-case hex")
	case d.mode&^0o7777 != 0:
		return errors.New("the mode is not one of a file")
	case d.owner != "" && !accountName.MatchString(d.owner), d.group != "" && !accountName.MatchString(d.group):
		return errors.New("the owner or group is not an account's name")
	}
	return nil
}

// words are the arguments of deliver in file.sh.
func (d delivery) words() string {
	mode := ""
	if d.mode != 0 {
		mode = fmt.Sprintf("%o", d.mode)
	}
	return fmt.Sprintf("%s %s %s %s %s", target(d.path), d.digest, quote(mode), quote(d.owner), quote(d.group))
}

func (c *compiledSteps) putFile(s machine.PutFile) error {
	sum := sha256.Sum256(s.Content)
	d := delivery{s.Path, hex.EncodeToString(sum[:]), s.Mode, s.Owner, s.Group}
	if err := d.check(); err != nil {
		return fmt.Errorf("put file: %w", err)
	}
	if s.SHA256 != "" && s.SHA256 != d.digest {
		return errors.New("put file: the digest is not that of the content")
	}
	c.files = true
	c.text.line("put_file %s <<'ISTHMUS_CONTENT'", d.words())
	encoded := base64.StdEncoding.EncodeToString(s.Content)
	for len(encoded) > base64Line {
		c.text.line("%s", encoded[:base64Line])
		encoded = encoded[base64Line:]
	}
	if encoded != "" {
		c.text.line("%s", encoded)
	}
	c.text.line("ISTHMUS_CONTENT")
	return nil
}

// placeFile takes staged content. The last step that wants it moves it, the ones before copy.
func (c *compiledSteps) placeFile(s machine.PlaceFile) error {
	d := delivery{s.Path, s.SHA256, s.Mode, s.Owner, s.Group}
	if err := d.check(); err != nil {
		return fmt.Errorf("place file: %w", err)
	}
	c.files = true
	c.placed[s.SHA256]--
	verb := "copy"
	if c.placed[s.SHA256] == 0 {
		verb = "move"
	}
	c.text.line("place_file %s %s", verb, d.words())
	return nil
}

func (c *compiledSteps) fetchFile(s machine.FetchFile) error {
	d := delivery{s.Path, s.SHA256, s.Mode, s.Owner, s.Group}
	if err := d.check(); err != nil {
		return fmt.Errorf("fetch file: %w", err)
	}
	location, err := validURL(s.URL)
	if err != nil {
		return fmt.Errorf("fetch file: %w", err)
	}
	if s.MaxSize <= 0 {
		return errors.New("fetch file: a limit of its size is required")
	}
	c.files, c.fetches = true, true
	c.text.line("fetch_file %s %d %s", quote(location), s.MaxSize, d.words())
	return nil
}

// validURL is one that a download tool can read in one way only, and that holds no credentials:
// it shows in the host's process list.
func validURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", errors.New("the URL cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("the URL is neither http nor https")
	case u.Hostname() == "":
		return "", errors.New("the URL names no host")
	case u.User != nil:
		return "", errors.New("the URL holds credentials, which would show in the host's process list")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"<>\^{|}`+"`", r) }):
		return "", errors.New("the URL holds a character that must be percent-encoded")
	case strings.ContainsAny(u.Host, "*?") || slices.Contains([]string{"-"}, u.Hostname()[:1]):
		return "", errors.New("the URL's host is not a name or an address")
	}
	u.Fragment, u.RawFragment = "", ""
	return u.String(), nil
}

// target is a path as three words: directory, name, and the name of the
// temporary file beside it, which is always the same for a path so that one that
// was left behind is found again.
func target(name string) string {
	sum := sha256.Sum256([]byte(name))
	return quote(path.Dir(name)) + " " + quote(path.Base(name)) + " .isthmus-" + hex.EncodeToString(sum[:8])
}

func (c *compiledSteps) removeFile(s machine.RemoveFile) error {
	if err := validPath(s.Path); err != nil {
		return fmt.Errorf("remove file: %w", err)
	}
	c.files = true
	c.text.line("remove_file %s", target(s.Path))
	return nil
}

// runScript runs in the process group of the steps, which ends with the job.
func (c *compiledSteps) runScript(s machine.RunScript) error {
	text := string(s.Text)
	if err := validScript(s.Interpreter, text, s.Environment); err != nil {
		return fmt.Errorf("run script: %w", err)
	}
	c.scripts = true
	interpreter := s.Interpreter
	if strings.TrimSpace(interpreter) == "" {
		interpreter = c.shell
	}
	c.text.line("L=")
	c.text.userScript("", interpreter, text, endWord(text), s.Environment)
	c.text.line("there || die %s", quote("the host has no program "+excerpt(firstWord(interpreter))+" to run the script with"))
	c.text.line("( script )")
	c.text.line("code=$?")
	c.text.line(`[ "$code" = 0 ] || fail "$code" "the script ended with exit code $code"`)
	return nil
}

// endWord is a line that text does not hold, and always the same for a text.
func endWord(text string) string {
	for salt := text; ; {
		sum := sha256.Sum256([]byte(salt))
		word := "ISTHMUS_" + hex.EncodeToString(sum[:16])
		if !strings.Contains(text, word) {
			return word
		}
		salt = word
	}
}
