package redaction

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Shortest is the length in bytes of the shortest secret that is hidden.
const Shortest = 4

// Forms are all forms in which a secret is commonly printed, itself among them,
// without duplicates and the longest first. A secret shorter than Shortest has none.
// The line end that an editor or echo has left behind it is no part of it: who
// prints it may have taken that off, and what it adds to a form tells nothing.
func Forms(secret []byte) [][]byte {
	secret = bytes.TrimRight(secret, "\r\n")
	if len(secret) < Shortest {
		return nil
	}
	forms := [][]byte{bytes.Clone(secret)}
	forms = append(forms, base64Forms(secret)...)
	if utf8.Valid(secret) {
		wide := utf16LE(secret)
		forms = append(forms, wide)
		forms = append(forms, base64Forms(wide)...)
		forms = append(forms, jsonForms(secret)...)
		forms = append(forms, xmlForms(secret)...)
	}
	return longestFirst(append(forms, urlForms(string(secret))...))
}

// longestFirst has a tool that replaces one form after the other never leave
// the rest of a longer one.
func longestFirst(forms [][]byte) [][]byte {
	slices.SortFunc(forms, func(a, b []byte) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return bytes.Compare(a, b)
	})
	return slices.CompactFunc(forms, bytes.Equal)
}

// base64Forms are the secret encoded alone, as a tool wraps it into lines, and
// its part of a longer text that has it at any of the three alignments.
func base64Forms(secret []byte) [][]byte {
	var forms [][]byte
	for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		alone := alphabet.EncodeToString(secret)
		forms = append(forms, []byte(alone), []byte(strings.TrimRight(alone, "=")))
		for before := range 3 {
			forms = append(forms, base64Inside(alphabet, secret, before))
		}
	}
	alone := base64.StdEncoding.EncodeToString(secret)
	for _, width := range []int{64, 76} { // openssl's and coreutils' lines
		forms = append(forms, []byte(wrapped(alone, width)))
	}
	return forms
}

// base64Inside are the characters of a longer base64 text that depend on the
// secret alone, if its first byte stands at an offset of before modulo three.
// A character carries six bits; those at the edges may share theirs with a neighbour.
func base64Inside(alphabet *base64.Encoding, secret []byte, before int) []byte {
	text := append(make([]byte, before, before+len(secret)+2), secret...)
	end := len(text) * 8 / 6
	for len(text)%3 != 0 {
		text = append(text, 0)
	}
	return []byte(alphabet.EncodeToString(text)[(before*8+5)/6 : end])
}

func wrapped(text string, width int) string {
	var lines []string
	for line := range slices.Chunk([]byte(text), width) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, "\n")
}

func utf16LE(secret []byte) []byte {
	wide := make([]byte, 0, 2*len(secret))
	for _, unit := range utf16.Encode([]rune(string(secret))) {
		wide = append(wide, byte(unit), byte(unit>>8))
	}
	return wide
}

var percentEncoded = regexp.MustCompile(`%[0-9A-F]{2}`)

func urlForms(secret string) [][]byte {
	query := url.QueryEscape(secret)
	var forms [][]byte
	for _, form := range []string{query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(secret)} {
		forms = append(forms, []byte(form), []byte(percentEncoded.ReplaceAllStringFunc(form, strings.ToLower)))
	}
	return forms
}

func jsonForms(secret []byte) [][]byte {
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	var forms [][]byte
	if encoder.Encode(string(secret)) == nil {
		forms = append(forms, unquoted(plain.Bytes()))
	}
	if escaped, err := json.Marshal(string(secret)); err == nil {
		forms = append(forms, unquoted(escaped))
	}
	return forms
}

func unquoted(text []byte) []byte {
	return bytes.Clone(bytes.TrimSuffix(bytes.TrimPrefix(bytes.TrimSpace(text), []byte{'"'}), []byte{'"'}))
}

var (
	xmlText      = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	xmlAttribute = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")
)

// xmlForms leave out what XML has no form for: encoding/xml writes a
// replacement character there, which is nobody's secret.
func xmlForms(secret []byte) [][]byte {
	forms := [][]byte{[]byte(xmlText.Replace(string(secret))), []byte(xmlAttribute.Replace(string(secret)))}
	var escaped bytes.Buffer
	if xml.EscapeText(&escaped, secret) == nil && !bytes.ContainsRune(escaped.Bytes(), utf8.RuneError) {
		forms = append(forms, escaped.Bytes())
	}
	return forms
}
