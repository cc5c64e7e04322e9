package redaction

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func has(forms [][]byte, form string) bool {
	return slices.ContainsFunc(forms, func(f []byte) bool { return string(f) == form })
}

func TestFormsOfASecret(t *testing.T) {
	for name, c := range map[string]struct{ secret, form string }{
		"raw":                       {"hunter22", "hunter22"},
		"base64":                    {"hunter22", "aHVudGVyMjI="},
		"base64 raw":                {"hunter22", "aHVudGVyMjI"},
		"base64 of a line":          {"hunter22\n", "aHVudGVyMjI="},
		"base64 URL alphabet":       {"??>>~~zz", "Pz8-Pn5-eno="},
		"base64 standard alphabet":  {"??>>~~zz", "Pz8+Pn5+eno="},
		"UTF-16LE":                  {"abcd", "a\x00b\x00c\x00d\x00"},
		"UTF-16LE of a pair":        {"ab\U0001F600", "a\x00b\x00\x3d\xd8\x00\xde"},
		"base64 of UTF-16LE":        {"abcd", "YQBiAGMAZAA="},
		"query":                     {"a b/c?d", "a+b%2Fc%3Fd"},
		"query, lower case":         {"a b/c?d", "a+b%2fc%3fd"},
		"query, blank in per cent":  {"a b/c?d", "a%20b%2Fc%3Fd"},
		"path":                      {"a b/c&d", "a%20b%2Fc&d"},
		"path, lower case":          {"a b/c&d", "a%20b%2fc&d"},
		"case of letters is kept":   {"AB/CD", "AB%2fCD"},
		"JSON":                      {"a\"b\\c\nd", `a\"b\\c\nd`},
		"JSON with HTML escapes":    {"a<b>c&d", `a\u003cb\u003ec\u0026d`},
		"JSON without HTML escapes": {"a<b\"c&d", `a<b\"c&d`},
		"XML":                       {"a<b\"c", "a&lt;b&#34;c"},
		"XML attribute":             {"a<b\"c'd", "a&lt;b&quot;c&apos;d"},
		"XML text":                  {"a<b\"c>d", "a&lt;b\"c&gt;d"},
		"base64 in lines":           {strings.Repeat("k", 60), base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 57))) + "\na2tr"},
	} {
		t.Run(name, func(t *testing.T) {
			if forms := Forms([]byte(c.secret)); !has(forms, c.form) {
				t.Errorf("no form %q of %q in %q", c.form, c.secret, forms)
			}
		})
	}
}

func TestFormsAreLongestFirstWithoutDuplicates(t *testing.T) {
	forms := Forms([]byte("plainword"))
	for i := 1; i < len(forms); i++ {
		if len(forms[i]) > len(forms[i-1]) || bytes.Equal(forms[i], forms[i-1]) {
			t.Errorf("%q after %q", forms[i], forms[i-1])
		}
	}
	if !bytes.Equal(forms[len(forms)-1], []byte("plainword")) {
		t.Errorf("the shortest is %q", forms[len(forms)-1])
	}
}

func TestAShortSecretHasNoForms(t *testing.T) {
	if forms := Forms([]byte("abc")); forms != nil {
		t.Errorf("got %q", forms)
	}
	if forms := Forms([]byte("abcd")); len(forms) == 0 {
		t.Error("four bytes have none")
	}
}

// TestBinarySecretsHaveNoTextForms: a replacement character stands for anything and is no secret.
func TestBinarySecretsHaveNoTextForms(t *testing.T) {
	for _, secret := range []string{"\xff\xfe\xfd\xfc\xfb", "\x01\x02\x03\x04"} {
		for _, form := range Forms([]byte(secret)) {
			if bytes.ContainsRune(form, '\uFFFD') && !strings.ContainsRune(secret, '\uFFFD') || string(form) == "" {
				t.Errorf("%q has the form %q", secret, form)
			}
		}
	}
}

// FuzzFormsAreFound encodes a secret between two other texts in each of the
// ways, with the encoders themselves, and looks whether a form is in it.
func FuzzFormsAreFound(f *testing.F) {
	f.Add([]byte("hunter22"), []byte("a"), []byte("bc"))
	f.Add([]byte("pass <&> word\n\"x\"\\"), []byte(""), []byte(""))
	f.Add([]byte("\xff\x00\x01zz"), []byte("ab"), []byte("c"))
	f.Add([]byte("größe€😀"), []byte("abc"), []byte("defg"))
	f.Fuzz(func(t *testing.T, secret, before, after []byte) {
		forms := Forms(secret)
		if len(secret) < Shortest {
			if forms != nil {
				t.Fatalf("%q has forms", secret)
			}
			return
		}
		for name, text := range encodings(secret, before, after) {
			if !slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(text, form) }) {
				t.Errorf("%s of %q between %q and %q, %q, has none of %q", name, secret, before, after, text, forms)
			}
		}
	})
}

func encodings(secret, before, after []byte) map[string][]byte {
	whole := slices.Concat(before, secret, after)
	texts := map[string][]byte{
		"raw":            whole,
		"base64":         []byte(base64.StdEncoding.EncodeToString(whole)),
		"base64 URL raw": []byte(base64.RawURLEncoding.EncodeToString(whole)),
		"query":          []byte(url.QueryEscape(string(whole))),
		"path":           []byte(url.PathEscape(string(whole))),
	}
	if !validText(before) || !validText(secret) || !validText(after) {
		return texts
	}
	var wide []byte
	for _, unit := range utf16.Encode([]rune(string(whole))) {
		wide = append(wide, byte(unit), byte(unit>>8))
	}
	texts["UTF-16"] = wide
	texts["base64 of UTF-16"] = []byte(base64.StdEncoding.EncodeToString(wide))
	texts["JSON"], _ = json.Marshal(string(whole))
	var escaped bytes.Buffer
	_ = xml.EscapeText(&escaped, whole)
	texts["XML"] = escaped.Bytes()
	return texts
}

// validText is what XML and JSON can say.
func validText(text []byte) bool {
	return !strings.ContainsFunc(strings.ToValidUTF8(string(text), "\x00"), func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == '\uFFFE' || r == '\uFFFF'
	})
}
