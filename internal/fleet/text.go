package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"regexp"
	"strings"
	"sync"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/redaction"
)

const (
	longestMessage = 512
	// window is how much of a text is looked at; the rest of what a host sends is dropped unseen.
	window = 64 << 10
	// maxRedactors are kept, because one for a private key takes a megabyte and
	// many Hosts share a Secret.
	maxRedactors = 8
	// maxSecrets bounds what is remembered of the secrets of one object's jobs. Those
	// beyond are hidden by the host, which was given them with the job.
	maxSecrets = 256 << 10
)

// secrets that no text of a host may show: what lets the operator in, there and
// on the way, and what jobs have brought there. The caller holds mu.
func (l *link) secrets() secrets {
	var all secrets
	for e := &l.endpoint; e != nil; e = e.Jump {
		c := e.Credentials
		all = append(all, []byte(c.Password), []byte(c.Passphrase), []byte(c.BecomePassword), c.PrivateKey, c.ClientKey)
	}
	for _, object := range sortedObjects(l.users) {
		for _, of := range l.users[object].secrets {
			for _, secret := range of {
				all = append(all, secret)
			}
		}
	}
	return all
}

type secrets [][]byte

// digest in which the order does not count.
func (s secrets) digest() (sum [sha256.Size]byte) {
	for _, secret := range s {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(secret)))
		for i, b := range sha256.Sum256(append(length[:], secret...)) {
			sum[i] ^= b
		}
	}
	return sum
}

// longestForm is an upper bound for the length of a secret in any of its forms.
func (s secrets) longestForm() int {
	longest := 0
	for _, secret := range s {
		longest = max(longest, len(secret))
	}
	return 6*longest + 64 // an escape of JSON or XML has six letters
}

// redactors keeps those that were used last.
type redactors struct {
	mu   sync.Mutex
	keys [][sha256.Size]byte // the latest at the end
	made map[[sha256.Size]byte]*redaction.Redactor
}

func (r *redactors) of(s secrets) *redaction.Redactor {
	key := s.digest()
	r.mu.Lock()
	defer r.mu.Unlock()
	if made := r.made[key]; made != nil {
		return made
	}
	made := redaction.New(s...)
	if r.made == nil {
		r.made = map[[sha256.Size]byte]*redaction.Redactor{}
	}
	if len(r.keys) == maxRedactors {
		delete(r.made, r.keys[0])
		r.keys = r.keys[1:]
	}
	r.keys, r.made[key] = append(r.keys, key), made
	return made
}

// forget lets go of what was kept, so that it does not outlive a Host for long.
func (r *redactors) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.made = nil, nil
}

// cleaner takes secrets out of texts, and what is too long off them. It has no
// lock and makes its Redactor when there is something to redact.
type cleaner struct {
	fleet    *Fleet
	secrets  secrets
	redactor *redaction.Redactor
}

// cleaner for what the host says now. The caller holds mu.
func (l *link) cleaner() *cleaner { return &cleaner{fleet: l.fleet, secrets: l.secrets()} }

// head is the beginning of a text.
func (c *cleaner) head(text string, limit int) string {
	text, cut := c.redact(text, func(size int) (string, bool) {
		if len(text) <= size {
			return text, false
		}
		return text[:size], true
	})
	if cut {
		text = text[:max(0, len(text)-c.secrets.longestForm())] // of a secret on the edge only a part may be there
	}
	return bound(text, limit)
}

// tail is the end of a text.
func (c *cleaner) tail(text string, limit int) string {
	text, cut := c.redact(text, func(size int) (string, bool) {
		if len(text) <= size {
			return text, false
		}
		return text[len(text)-size:], true
	})
	if cut {
		text = text[min(len(text), c.secrets.longestForm()):]
	}
	if len(text) > limit {
		text = strings.ToValidUTF8(text[len(text)-limit:], "")
	}
	return text
}

func (c *cleaner) redact(text string, cut func(size int) (string, bool)) (string, bool) {
	if text == "" {
		return "", false
	}
	part, was := cut(window + c.secrets.longestForm())
	if c.redactor == nil {
		c.redactor = c.fleet.redactors.of(c.secrets)
	}
	return c.redactor.String(part), was
}

// bound cuts a text at a rune.
func bound(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}

// localEnd is our side of a connection in a message of package net
// ("10.0.0.1:40022->"). Its port differs each time; a message that changes
// with each attempt would cost the API server a write for each.
var (
	localEnd  = regexp.MustCompile(`\S+->`)
	blanks    = regexp.MustCompile(`\s+`)
	forbidden = regexp.MustCompile(`[^\x20-\x7e\x{a0}-\x{10ffff}]`)
)

// describe makes a message for users of an error: stable, on one line, bounded,
// without secrets. The caller holds mu.
func (l *link) describe(err error) string {
	var address *AddressError
	if errors.As(err, &address) {
		return address.Error()
	}
	raw := err.Error()
	print := maphash.String(seed, localEnd.ReplaceAllString(bound(raw, window), ""))
	if l.described.message != "" && l.described.print == print {
		return l.described.message // A host that is away costs no Redactor for each attempt.
	}
	l.described.print, l.described.message = print, l.line(raw)
	return l.described.message
}

// line is a message on one line, without secrets.
func (l *link) line(raw string) string {
	message := localEnd.ReplaceAllString(l.cleaner().head(raw, window), "") // in this order: a secret may hold an arrow
	message = strings.ReplaceAll(message, context.DeadlineExceeded.Error(), "no answer in time")
	message = strings.ToValidUTF8(message, "?")
	message = forbidden.ReplaceAllString(blanks.ReplaceAllString(message, " "), "?")
	if len(message) > longestMessage {
		message = strings.ToValidUTF8(message[:longestMessage], "") + "..."
	}
	return strings.Clone(message)
}

// remember keeps the secrets of a job as long as its receipt is of interest.
func (u *user) remember(job machine.Job) {
	for id := range u.secrets {
		if u.jobs[id] == nil && !u.follows(id) {
			delete(u.secrets, id)
		}
	}
	size := 0
	var kept []machine.Secret
	for _, secret := range job.Secrets {
		if size += len(secret); size <= maxSecrets {
			kept = append(kept, secret)
		}
	}
	if len(kept) == 0 {
		return
	}
	if u.secrets == nil {
		u.secrets = map[string][]machine.Secret{}
	}
	u.secrets[job.ID] = kept
}
