package expression

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// IsNotYetKnown tells whether an expression failed only because a field, key or
// element that it reads is not there yet.
func IsNotYetKnown(err error) bool {
	var missing *missingError
	return errors.As(err, &missing)
}

// missingError is an error that waiting may cure.
type missingError struct{ at *Error }

// Error says what is not there.
func (e *missingError) Error() string { return e.at.Error() }

// Unwrap gives the place.
func (e *missingError) Unwrap() error { return e.at }

// Evaluate gives the value of the template, as JSON has it: string, int64,
// float64, bool, nil, []any or map[string]any. A template that is exactly one
// expression keeps the type of its value, any other gives a string.
func (t Template) Evaluate(env *Environment, vars map[string]any) (any, error) {
	if t.IsSingle() {
		value, err := env.Evaluate(*t.parts[0].expression, vars)
		if text, isText := value.(string); isText && t.reparsed {
			value = escape(text)
		}
		return value, err
	}
	var out strings.Builder
	for _, p := range t.parts {
		if p.expression == nil {
			out.WriteString(p.literal)
			continue
		}
		value, err := env.Evaluate(*p.expression, vars)
		if err != nil {
			return nil, err
		}
		text, err := asText(value)
		if err != nil {
			return nil, errorAt(p.expression.source, p.expression.offset, "%s", err)
		}
		if t.reparsed {
			text = escape(text)
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// Evaluate gives the value of one expression, as JSON has it.
func (e *Environment) Evaluate(x Expression, vars map[string]any) (any, error) {
	program, err := e.program(x)
	if err != nil {
		return nil, err
	}
	if vars == nil {
		vars = map[string]any{}
	}
	value, _, err := program.Eval(vars)
	if err != nil {
		return nil, x.failed(err)
	}
	if weigh(value, maxSize, 1) > maxSize {
		return nil, errorAt(x.source, x.offset, "cost limit: the value is larger than %d MiB", maxSize>>20)
	}
	native, err := toJSON(value)
	if err != nil {
		return nil, x.failed(err)
	}
	return native, nil
}

// Holds evaluates an expression that must give a bool.
func (e *Environment) Holds(x Expression, vars map[string]any) (bool, error) {
	value, err := e.Evaluate(x, vars)
	if err != nil {
		return false, err
	}
	holds, ok := value.(bool)
	if !ok {
		return false, errorAt(x.source, x.offset, "the expression gives %s, not true or false", describe(value))
	}
	return holds, nil
}

func (x Expression) failed(err error) error {
	at := errorAt(x.source, x.offset, "%s", firstLine(err.Error()))
	if meansMissing(err) {
		at.Message = "not yet known: " + at.Message
		return &missingError{at: at}
	}
	return at
}

// errMissing is how values that are not there are reported by toJSON.
var errMissing = errors.New("no value")

// meansMissing tells a missing field from other failures. CEL has no types for
// these errors; their texts are part of its conformance tests.
func meansMissing(err error) bool {
	if errors.Is(err, errMissing) {
		return true
	}
	message := err.Error()
	for _, prefix := range []string{"no such key", "no such attribute", "index out of bounds", "optional.none() dereference"} {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return false
}

// asText writes a scalar inside a text.
func asText(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	default:
		return "", fmt.Errorf("%s cannot stand inside a text; make a string of it", describe(value))
	}
}

// describe names the JSON type of a value.
func describe(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a bool"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("a %T", value)
	}
}
