package wql

import (
	"fmt"
	"strings"
)

// Query is a parsed query.
type Query struct {
	// Properties are the selected ones, nil for all.
	Properties []string
	Class      string
	where      expression // nil for all objects
}

// parser reads tokens from left to right.
type parser struct {
	tokens []token
}

// Parse reads a query.
func Parse(query string) (*Query, error) {
	tokens, err := lex(query)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens}
	q := &Query{}
	if !p.accept("SELECT") {
		return nil, fmt.Errorf("SELECT is missing")
	}
	if q.Properties, err = p.properties(); err != nil {
		return nil, err
	}
	if !p.accept("FROM") {
		return nil, fmt.Errorf("FROM is missing")
	}
	if q.Class, err = p.name(); err != nil {
		return nil, err
	}
	if p.accept("WHERE") {
		if q.where, err = p.disjunction(); err != nil {
			return nil, err
		}
	}
	if p.tokens[0].kind != end {
		return nil, fmt.Errorf("unexpected %q", p.tokens[0].value)
	}
	return q, nil
}

// Matches tells whether an object is selected. Value returns a property of it, nil
// for NULL.
func (q *Query) Matches(value func(property string) any) bool {
	return q.where == nil || q.where.holds(value)
}

func (p *parser) accept(value string) bool {
	if !p.tokens[0].is(value) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) name() (string, error) {
	t := p.tokens[0]
	if t.kind != word {
		return "", fmt.Errorf("a name is missing before %q", t.value)
	}
	p.tokens = p.tokens[1:]
	return t.value, nil
}

func (p *parser) properties() ([]string, error) {
	if p.accept("*") {
		return nil, nil
	}
	var names []string
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if !p.accept(",") {
			return names, nil
		}
	}
}

func (p *parser) disjunction() (expression, error) {
	left, err := p.conjunction()
	for err == nil && p.accept("OR") {
		var right expression
		if right, err = p.conjunction(); err == nil {
			left = either{left, right}
		}
	}
	return left, err
}

func (p *parser) conjunction() (expression, error) {
	left, err := p.factor()
	for err == nil && p.accept("AND") {
		var right expression
		if right, err = p.factor(); err == nil {
			left = both{left, right}
		}
	}
	return left, err
}

func (p *parser) factor() (expression, error) {
	if p.accept("NOT") {
		inner, err := p.factor()
		return not{inner}, err
	}
	if p.accept("(") {
		inner, err := p.disjunction()
		if err == nil && !p.accept(")") {
			err = fmt.Errorf("a closing parenthesis is missing")
		}
		return inner, err
	}
	return p.comparison()
}

func (p *parser) comparison() (expression, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if p.accept("IS") {
		var test expression = isNull{name}
		if p.accept("NOT") {
			test = not{test}
		}
		if !p.accept("NULL") {
			return nil, fmt.Errorf("NULL is missing after IS")
		}
		return test, nil
	}
	operator := strings.ToUpper(p.tokens[0].value)
	switch operator {
	case "=", "<>", "!=", "<", "<=", ">", ">=", "LIKE":
		p.tokens = p.tokens[1:]
	default:
		return nil, fmt.Errorf("an operator is missing before %q", p.tokens[0].value)
	}
	literal := p.tokens[0]
	isBoolean := literal.is("TRUE") || literal.is("FALSE")
	if literal.is("NULL") && (operator == "=" || operator == "<>" || operator == "!=") {
		p.tokens = p.tokens[1:]
		if operator == "=" {
			return isNull{name}, nil
		}
		return not{isNull{name}}, nil
	}
	if literal.kind != text && literal.kind != number && !isBoolean || operator == "LIKE" && literal.kind != text {
		return nil, fmt.Errorf("a literal is missing before %q", literal.value)
	}
	p.tokens = p.tokens[1:]
	return comparison{name, operator, literal}, nil
}
