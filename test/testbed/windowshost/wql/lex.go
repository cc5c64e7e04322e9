package wql

import (
	"fmt"
	"strings"
)

// kind is what a token is.
type kind int

const (
	end kind = iota
	word
	text
	number
	symbol
)

type token struct {
	kind  kind
	value string
}

// is tells whether a token is a keyword or a symbol.
func (t token) is(value string) bool {
	return t.kind == symbol && t.value == value || t.kind == word && strings.EqualFold(t.value, value)
}

// lex cuts a query into tokens.
func lex(query string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(query); {
		c := query[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '\'' || c == '"':
			value, next, err := quoted(query, i)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, token{text, value})
			i = next
		case isLetter(c):
			start := i
			for i < len(query) && (isLetter(query[i]) || isDigit(query[i])) {
				i++
			}
			tokens = append(tokens, token{word, query[start:i]})
		case isDigit(c) || c == '-':
			start := i
			for i++; i < len(query) && (isDigit(query[i]) || query[i] == '.'); i++ {
			}
			tokens = append(tokens, token{number, query[start:i]})
		default:
			size := 1
			if i+1 < len(query) && (query[i:i+2] == "<>" || query[i:i+2] == "!=" || query[i:i+2] == "<=" || query[i:i+2] == ">=") {
				size = 2
			}
			if !strings.Contains("= <> != <= >= < > ( ) , *", query[i:i+size]) {
				return nil, fmt.Errorf("unexpected %q", query[i:i+size])
			}
			tokens = append(tokens, token{symbol, query[i : i+size]})
			i += size
		}
	}
	return append(tokens, token{end, ""}), nil
}

// quoted reads the string that begins at i and returns what follows it.
func quoted(query string, i int) (value string, next int, err error) {
	var b strings.Builder
	quote := query[i]
	for i++; i < len(query); i++ {
		switch c := query[i]; {
		case c == quote:
			return b.String(), i + 1, nil
		case c == '\\' && i+1 < len(query) && (query[i+1] == '\\' || query[i+1] == '\'' || query[i+1] == '"'):
			i++
			b.WriteByte(query[i])
		case c == '\\':
			return "", 0, fmt.Errorf("a backslash in a string must be doubled")
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, fmt.Errorf("a string does not end")
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
