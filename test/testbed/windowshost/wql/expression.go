package wql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// expression is a condition.
type expression interface {
	holds(value func(string) any) bool
	demands(property string) (string, bool)
}

type both struct{ left, right expression }

func (b both) holds(value func(string) any) bool { return b.left.holds(value) && b.right.holds(value) }

func (b both) demands(property string) (string, bool) {
	if text, ok := b.left.demands(property); ok {
		return text, true
	}
	return b.right.demands(property)
}

type either struct{ left, right expression }

func (e either) holds(value func(string) any) bool {
	return e.left.holds(value) || e.right.holds(value)
}

func (either) demands(string) (string, bool) { return "", false }

// alternatives collects the strings that a chain of ORs asks one property for.
func alternatives(e expression, property string) ([]string, bool) {
	if or, ok := e.(either); ok {
		left, leftOK := alternatives(or.left, property)
		right, rightOK := alternatives(or.right, property)
		return append(left, right...), leftOK && rightOK
	}
	text, ok := e.demands(property)
	return []string{text}, ok
}

// Alternatives returns the strings of which the condition demands one of a property.
func (q *Query) Alternatives(property string) ([]string, bool) {
	if q.where == nil {
		return nil, false
	}
	return alternatives(q.where, property)
}

type not struct{ inner expression }

func (n not) holds(value func(string) any) bool { return !n.inner.holds(value) }

func (not) demands(string) (string, bool) { return "", false }

type isNull struct{ property string }

func (i isNull) holds(value func(string) any) bool { return value(i.property) == nil }

func (isNull) demands(string) (string, bool) { return "", false }

type comparison struct {
	property string
	operator string
	literal  token
}

func (c comparison) demands(property string) (string, bool) {
	return c.literal.value, c.operator == "=" && c.literal.kind == text && strings.EqualFold(c.property, property)
}

// holds compares. NULL compares false with everything.
func (c comparison) holds(value func(string) any) bool {
	v := value(c.property)
	if v == nil {
		return false
	}
	if c.operator == "LIKE" {
		return like(c.literal.value).MatchString(fmt.Sprint(v))
	}
	order, comparable := c.order(v)
	if !comparable {
		return false
	}
	switch c.operator {
	case "=":
		return order == 0
	case "<>", "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	default:
		return order >= 0
	}
}

// order is negative, zero or positive as the value is before, at or after the literal.
func (c comparison) order(v any) (int, bool) {
	switch v := v.(type) {
	case string:
		return strings.Compare(strings.ToLower(v), strings.ToLower(c.literal.value)), true
	case bool:
		want := c.literal.is("TRUE") || c.literal.value == "1" || strings.EqualFold(c.literal.value, "true")
		if v == want {
			return 0, true
		}
		return 1, true
	}
	have, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil {
		return 0, false
	}
	want, err := strconv.ParseFloat(c.literal.value, 64)
	switch {
	case err != nil:
		return 0, false
	case have < want:
		return -1, true
	case have > want:
		return 1, true
	}
	return 0, true
}

// like is the regular expression for a LIKE pattern: % any text, _ one character, [a-z] and [^a-z] sets.
func like(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?is)^`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '%':
			b.WriteString(`.*`)
		case '_':
			b.WriteString(`.`)
		case '[':
			if j := strings.IndexByte(pattern[i:], ']'); j > 1 {
				set := strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(pattern[i+1 : i+j])
				b.WriteString("[" + set + "]")
				i += j
				continue
			}
			b.WriteString(`\[`)
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString(`$`)
	r, err := regexp.Compile(b.String())
	if err != nil {
		return regexp.MustCompile(`^\b$`) // matches nothing
	}
	return r
}
