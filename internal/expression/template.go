package expression

import (
	"fmt"
	"strings"
)

// Template is a parsed text: literal parts and expressions.
type Template struct {
	text  string
	parts []part
	// reparsed: the result is a template again, so a value must not become one.
	reparsed bool
}

// part is a literal, or an expression if that is set.
type part struct {
	literal    string
	expression *Expression
}

// Expression is one ${...} of a template.
type Expression struct {
	// Text between the braces.
	Text string
	// source is the text that the expression was found in, and offset the byte
	// at which the expression begins there; errors are located by them.
	source string
	offset int
}

// Parse splits a text into literal parts and expressions. It fails on an
// expression that does not end or has nothing in it; what is inside is checked
// by an Environment.
func Parse(text string) (Template, error) {
	t := Template{text: text}
	var literal strings.Builder
	for rest := 0; rest < len(text); {
		at := strings.IndexByte(text[rest:], '$')
		if at < 0 {
			literal.WriteString(text[rest:])
			break
		}
		literal.WriteString(text[rest : rest+at])
		rest += at
		switch {
		case strings.HasPrefix(text[rest:], "$${"):
			literal.WriteString("${")
			rest += len("$${")
		case strings.HasPrefix(text[rest:], "${"):
			end, err := endOfExpression(text, rest)
			if err != nil {
				return Template{}, err
			}
			t.appendLiteral(&literal)
			start := rest + len("${")
			t.parts = append(t.parts, part{expression: &Expression{Text: text[start:end], source: text, offset: start}})
			rest = end + 1
		default:
			literal.WriteByte('$')
			rest++
		}
	}
	t.appendLiteral(&literal)
	return t, nil
}

// Condition makes an expression of a text that is CEL as a whole, without ${}.
func Condition(text string) Expression { return Expression{Text: text, source: text} }

func (t *Template) appendLiteral(literal *strings.Builder) {
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
		literal.Reset()
	}
}

// IsSingle tells whether the template is exactly one expression, whose value keeps its type.
func (t Template) IsSingle() bool { return len(t.parts) == 1 && t.parts[0].expression != nil }

// Expressions of the template, in their order.
func (t Template) Expressions() []Expression {
	var all []Expression
	for _, p := range t.parts {
		if p.expression != nil {
			all = append(all, *p.expression)
		}
	}
	return all
}

// Leave returns the template with some expressions left as they are written, as
// text for somebody else to evaluate. What was escaped stays so, because that
// somebody parses it again.
func (t Template) Leave(left func(Expression) bool) Template {
	var parts []part
	var literal strings.Builder
	for _, p := range t.parts {
		switch {
		case p.expression == nil:
			literal.WriteString(escape(p.literal))
		case left(*p.expression):
			literal.WriteString("${" + p.expression.Text + "}")
		default:
			if literal.Len() > 0 {
				parts = append(parts, part{literal: literal.String()})
				literal.Reset()
			}
			parts = append(parts, p)
		}
	}
	if literal.Len() > 0 {
		parts = append(parts, part{literal: literal.String()})
	}
	return Template{text: t.text, parts: parts, reparsed: true}
}

func escape(text string) string { return strings.ReplaceAll(text, "${", "$${") }

// String is the text that was parsed.
func (t Template) String() string { return t.text }

// endOfExpression finds the brace that closes the expression beginning at start,
// skipping braces inside strings, comments and map literals.
func endOfExpression(text string, start int) (int, error) {
	begin := start + len("${")
	depth := 0
	for i := begin; i < len(text); {
		if next := skipOpaque(text, i); next > i {
			i = next
			continue
		}
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				if strings.TrimSpace(text[begin:i]) == "" {
					return 0, errorAt(text, start, "the expression ${} is empty; write $${ for a literal ${")
				}
				return i, nil
			}
			depth--
		}
		i++
	}
	return 0, errorAt(text, start, "the expression that begins here has no closing brace; write $${ for a literal ${")
}

// skipOpaque returns the index after the string literal or comment that begins
// at i, or i if none does. One that does not end reaches to the end of the text.
func skipOpaque(text string, i int) int {
	rest := text[i:]
	if strings.HasPrefix(rest, "//") {
		if end := strings.IndexByte(rest, '\n'); end >= 0 {
			return i + end
		}
		return len(text)
	}
	if rest[0] != '"' && rest[0] != '\'' && rest[0] != '`' {
		return i
	}
	quote := rest[:1]
	if triple := strings.Repeat(quote, 3); quote != "`" && strings.HasPrefix(rest, triple) {
		quote = triple
	}
	raw := isRawPrefix(text, i)
	for j := i + len(quote); j < len(text); j++ {
		if text[j] == '\\' && !raw {
			j++
			continue
		}
		if strings.HasPrefix(text[j:], quote) {
			return j + len(quote)
		}
	}
	return len(text)
}

// isRawPrefix tells whether the quote at i belongs to a raw string: r"..", or br"..".
func isRawPrefix(text string, i int) bool {
	if i == 0 || (text[i-1] != 'r' && text[i-1] != 'R') {
		return false
	}
	before := strings.TrimRight(text[:i-1], "bB")
	return before == "" || !isIdentifierByte(before[len(before)-1])
}

func isIdentifierByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// Error is what is wrong with an expression, and where in the text.
type Error struct {
	// Line and Column count from 1; a column is a character, not a byte.
	Line, Column int
	// Multiline tells whether the text has several lines, so that the line is worth saying.
	Multiline bool
	// Message says what is wrong.
	Message string
}

// Error names the place and what is wrong with it.
func (e *Error) Error() string {
	if e.Multiline {
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("column %d: %s", e.Column, e.Message)
}

// errorAt locates a byte of a text.
func errorAt(text string, offset int, format string, args ...any) *Error {
	offset = min(max(offset, 0), len(text))
	before := text[:offset]
	return &Error{
		Line:      strings.Count(before, "\n") + 1,
		Column:    len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1,
		Multiline: strings.Contains(text, "\n"),
		Message:   fmt.Sprintf(format, args...),
	}
}
