package redaction

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestRedactor(t *testing.T) {
	for name, c := range map[string]struct {
		secrets    []string
		text, want string
	}{
		"nothing to hide":              {[]string{"hunter22"}, "all is well", "all is well"},
		"as it is":                     {[]string{"hunter22"}, "password=hunter22;", "password=[redacted];"},
		"twice":                        {[]string{"hunter22"}, "hunter22 hunter22", "[redacted] [redacted]"},
		"side by side":                 {[]string{"hunter22"}, "hunter22hunter22", "[redacted]"},
		"overlapping itself":           {[]string{"abab"}, "xabababy", "x[redacted]y"},
		"two that overlap":             {[]string{"abcdef", "defghi"}, "-abcdefghi-", "-[redacted]-"},
		"one in the other":             {[]string{"bcde", "abcdef"}, "abcdef", "[redacted]"},
		"a prefix alone":               {[]string{"bcde", "abcdef"}, "abcde!", "a[redacted]!"},
		"a failed longer match":        {[]string{"abcdeX", "bcdY"}, "abcdY", "a[redacted]"},
		"base64 in a longer one":       {[]string{"hunter22"}, base64.StdEncoding.EncodeToString([]byte("user:hunter22!")), "dXNlcjp[redacted]iE="},
		"short secrets are left":       {[]string{"abc"}, "abc", "abc"},
		"empty secrets are left":       {[]string{""}, "abc", "abc"},
		"line of a secret":             {[]string{"first line\nsecond line\nshort\n"}, "got second line", "got [redacted]"},
		"short line of a secret":       {[]string{"first line\nsecond line\nshort\n"}, "got short", "got short"},
		"Windows lines":                {[]string{"first line\r\nsecond line\r\n"}, "second line\nfirst line\n", "[redacted]\n[redacted]\n"},
		"the editor's line end":        {[]string{"pass5\n"}, "pass5", "[redacted]"},
		"the replacement in a text":    {[]string{"hunter22"}, "[redacted]", "[redacted]"},
		"the replacement as a secret":  {[]string{"redacted"}, "[redacted] hunter22", "[[redacted]] hunter22"},
		"a secret at the end, cut off": {[]string{"hunter22"}, "hunter2", "hunter2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(bytesOf(c.secrets)...)
			if got := r.String(c.text); got != c.want {
				t.Errorf("String gives %q, want %q", got, c.want)
			}
			if got := string(r.Bytes([]byte(c.text))); got != c.want {
				t.Errorf("Bytes gives %q, want %q", got, c.want)
			}
			if got := streamed(t, r, slices.Collect(slices.Chunk([]byte(c.text), 1))); got != c.want {
				t.Errorf("Writer gives %q, want %q", got, c.want)
			}
		})
	}
}

func bytesOf(texts []string) [][]byte {
	var all [][]byte
	for _, text := range texts {
		all = append(all, []byte(text))
	}
	return all
}

func streamed(t *testing.T, r *Redactor, chunks [][]byte) string {
	t.Helper()
	var out bytes.Buffer
	w := r.Writer(&out)
	for _, chunk := range chunks {
		if n, err := w.Write(chunk); err != nil || n != len(chunk) {
			t.Fatalf("Write of %d bytes: %d, %v", len(chunk), n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestANilRedactorHidesNothing(t *testing.T) {
	var r *Redactor
	if got := r.String("hunter22") + string(r.Bytes([]byte("hunter22"))); got != "hunter22hunter22" {
		t.Errorf("got %q", got)
	}
	if got := streamed(t, r, [][]byte{[]byte("hunt"), []byte("er22")}); got != "hunter22" {
		t.Errorf("Writer gives %q", got)
	}
}

func TestBytesLeavesItsArgument(t *testing.T) {
	text := []byte("a hunter22")
	New([]byte("hunter22")).Bytes(text)
	if string(text) != "a hunter22" {
		t.Errorf("changed to %q", text)
	}
}

// TestLongSecrets are files: hidden as a whole in each form, and where a large part of one is printed.
func TestLongSecrets(t *testing.T) {
	secret := make([]byte, 100_000)
	letters := rand.New(rand.NewPCG(1, 2))
	for i := range secret {
		secret[i] = "abcdefghijklmnopqrstuvwxyz \"<\n"[letters.IntN(30)]
	}
	r := New(secret)
	for _, form := range Forms(secret) {
		if got := r.String("before " + string(form) + " after"); got != "before [redacted] after" {
			t.Fatalf("left %d bytes of a form of %d: %.60q", len(got), len(form), got)
		}
	}
	if got := r.String(string(secret[30_000:50_000])); len(got) > 2*block+len(Replacement) {
		t.Errorf("left %d bytes of a part of 20000", len(got))
	}
	if nodes := len(r.scan().m.nodes); nodes > 1_000_000 {
		t.Errorf("%d nodes", nodes)
	}
}

// TestMemoryOfAStream: endless overlapping matches are one span, whose start is forgotten.
func TestMemoryOfAStream(t *testing.T) {
	for name, c := range map[string]struct{ secret, text string }{
		"overlapping":  {"aaaa", "a"},
		"side by side": {"abcd", "abcd"},
		"one apart":    {"abcd", "abcd-"},
		"never":        {"abcd", "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			w := New([]byte(c.secret)).Writer(io.Discard)
			chunk := []byte(strings.Repeat(c.text, 1<<20/len(c.text)))
			for range 8 {
				if _, err := w.Write(chunk); err != nil {
					t.Fatal(err)
				}
				if cap(w.held) > 64<<10 || cap(w.pending) > 64<<10 || cap(w.hidden) > 64<<10 {
					t.Fatalf("holds %d, %d bytes and %d spans", cap(w.held), cap(w.pending), cap(w.hidden))
				}
			}
		})
	}
}

// TestAStreamIsPassedOn: what cannot be part of a secret any more does not wait for the next chunk.
func TestAStreamIsPassedOn(t *testing.T) {
	var out bytes.Buffer
	r := New([]byte("hunter22"))
	w := r.Writer(&out)
	text := strings.Repeat("x", 1000)
	fmt.Fprint(w, text)
	if held := len(text) - out.Len(); held != r.scan().m.longest-1 {
		t.Errorf("%d bytes are held back, the longest form has %d", held, r.scan().m.longest)
	}
}

type failing struct{}

var errFull = errors.New("full")

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestAnErrorOfTheStreamStays(t *testing.T) {
	for _, r := range []*Redactor{nil, New([]byte("hunter22"))} {
		w := r.Writer(failing{})
		if _, err := w.Write(make([]byte, 10_000)); !errors.Is(err, errFull) {
			t.Errorf("Write: %v", err)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, errFull) {
			t.Errorf("second Write: %v", err)
		}
		if err := w.Close(); !errors.Is(err, errFull) {
			t.Errorf("Close: %v", err)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
	}
}

func TestPrintingShowsNothing(t *testing.T) {
	r := New([]byte("hunter22"))
	w := r.Writer(io.Discard)
	fmt.Fprint(w, "hunter22")
	encoded, err := json.Marshal(map[string]any{"r": r, "w": w})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed := fmt.Sprintf(verb+verb+verb, r, *r, struct{ r *Redactor }{r})
		printed += fmt.Sprintf(verb+verb, w, *w)
		printed += string(encoded)
		for _, form := range append(Forms([]byte("hunter22")), []byte("104 117 110"), []byte("hunt"), []byte("68756e")) {
			if strings.Contains(printed, string(form)) {
				t.Errorf("%s prints %q", verb, printed)
			}
		}
	}
}

// FuzzNothingGetsThrough: between the replacements there is no form of a secret,
// what is left of the text is left in order, and a stream gives the same however it is cut.
func FuzzNothingGetsThrough(f *testing.F) {
	f.Add([]byte("hunter22"), []byte("second\nsecret"), []byte("hunter2hunter22 second"), uint64(1))
	f.Add([]byte("aaaa"), []byte("abab"), []byte("aaaaaaababababaaaa"), uint64(2))
	f.Add([]byte("redacted"), []byte("d]xy"), []byte("[redacted]xyhunter"), uint64(3))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 100), []byte("abcd"), bytes.Repeat([]byte("0123456789abcdef"), 120), uint64(4))
	f.Fuzz(func(t *testing.T, first, second, text []byte, seed uint64) {
		r := New(first, second)
		random := rand.New(rand.NewPCG(seed, 0))
		for _, text := range [][]byte{text, woven(random, text, first, second)} {
			out := r.String(string(text))
			for piece := range strings.SplitSeq(out, Replacement) {
				for _, form := range append(Forms(first), Forms(second)...) {
					if strings.Contains(piece, string(form)) {
						t.Fatalf("%q of %q: form %q got through", out, text, form)
					}
				}
			}
			if got := streamed(t, r, cut(random, text)); got != out {
				t.Fatalf("a stream gives %q, a text %q", got, out)
			}
		}
	})
}

// woven is a text with forms of the secrets and parts of them in it.
func woven(random *rand.Rand, text []byte, secrets ...[]byte) []byte {
	var out []byte
	for range 8 {
		if len(text) > 0 {
			out = append(out, text[random.IntN(len(text)):]...)
		}
		if forms := Forms(secrets[random.IntN(len(secrets))]); len(forms) > 0 {
			form := forms[random.IntN(len(forms))]
			out = append(out, form[random.IntN(2)*random.IntN(len(form)):]...)
		}
	}
	return out
}

func cut(random *rand.Rand, text []byte) [][]byte {
	var chunks [][]byte
	for len(text) > 0 {
		n := 1 + random.IntN(min(len(text), 1+random.IntN(40)))
		chunks = append(chunks, text[:n])
		text = text[n:]
	}
	return chunks
}

func BenchmarkString(b *testing.B) {
	secrets := [][]byte{[]byte("correct horse battery staple"), []byte("hunter22")}
	for name, text := range map[string]string{
		"without": strings.Repeat("level=info msg=\"reconciled\" took=12ms\n", 1700),
		"with":    strings.Repeat("level=info password=hunter22 took=12ms\n", 1700),
		"nearly":  strings.Repeat("hunter2", 9300),
	} {
		b.Run(name, func(b *testing.B) {
			r := New(secrets...)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				runtime.KeepAlive(r.String(text))
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for name, secret := range map[string][]byte{
		"password": []byte("correct horse battery staple"),
		"key":      []byte(strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n", 50)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				runtime.KeepAlive(New(secret))
			}
		})
	}
}
