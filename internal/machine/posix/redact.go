package posix

import (
	"bytes"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/redaction"
)

// minSecret is the length from which a value is hidden: hiding shorter ones
// would tear words apart without hiding anything.
const minSecret = 4

// hidden are the texts in which secrets are recognised, line by line and the longest
// first: that is how output is read, and how a key would be printed.
func hidden(secrets []machine.Secret) []string {
	var texts []string
	add := func(text []byte) {
		for line := range bytes.Lines(text) {
			word := string(bytes.TrimSpace(bytes.ReplaceAll(line, []byte{0}, nil)))
			if len(word) >= minSecret && !slices.Contains(texts, word) {
				texts = append(texts, word)
			}
		}
	}
	for _, secret := range secrets {
		add(secret)
		for _, form := range redaction.Forms(secret) {
			if !bytes.Contains(form, []byte{0}) {
				add(form)
			}
		}
	}
	slices.SortStableFunc(texts, func(a, b string) int { return len(b) - len(a) })
	return texts
}

func values(variables []machine.Variable) []machine.Secret {
	secrets := make([]machine.Secret, len(variables))
	for i, v := range variables {
		secrets[i] = v.Value
	}
	return secrets
}

// margin is how much more than the output is asked for, so that no half of a value stands at its beginning.
func margin(variables []machine.Variable) int {
	if texts := hidden(values(variables)); len(texts) > 0 {
		return min(len(texts[0]), maxHidden)
	}
	return 0
}

// scriptOutput hides the values of the environment in what a script printed, and
// keeps its end. Where the host has cut it, so much is left out as a value is long.
func scriptOutput(text string, variables []machine.Variable) string {
	// What is hidden stays as long as it was until the text is cut; the byte that stands for it is in no text.
	// NUL bytes go, and count for what is left out: half a value in UTF-16 stands before as many bytes as any other.
	cut := max(0, len(text)-maxScriptOutput)
	cut -= strings.Count(text[:cut], "\x00")
	text = strings.ReplaceAll(text, "\x00", "")
	for _, value := range hidden(values(variables)) {
		text = strings.ReplaceAll(text, value, strings.Repeat("\x00", len(value)))
	}
	text = text[cut:]
	var shown strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != 0 {
			shown.WriteByte(text[i])
		} else if i == 0 || text[i-1] != 0 {
			shown.WriteString("[redacted]")
		}
	}
	return tidy(shown.String(), maxScriptOutput)
}

// compileRedaction hides the secrets of a job in what its receipt keeps.
func compileRedaction(s *script, job machine.Job) {
	secrets := slices.Clone(job.Secrets)
	for _, step := range job.Steps {
		if run, is := step.(machine.RunScript); is {
			secrets = append(secrets, values(run.Environment)...)
		}
	}
	s.line("redact() {")
	for _, text := range hidden(secrets) {
		s.line("hide %s", quote(text))
	}
	s.line(`printf '%%s\n' "$l"`)
	s.line("}")
}
