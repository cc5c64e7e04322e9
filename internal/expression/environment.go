package expression

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apiserver/pkg/cel/library"
)

const (
	// costLimit ends an evaluation; it is the limit that the API server gives one admission expression.
	costLimit = 1_000_000
	// maxPrograms bounds the cache of an environment.
	maxPrograms = 8192
	// maxExpression bounds the length of one expression, in bytes.
	maxExpression = 16 << 10
)

// Environment knows variables and functions; it checks and evaluates
// expressions. It is safe for concurrent use and remembers what it compiled.
type Environment struct {
	cel   *cel.Env
	bound interpreter.InterpretableDecorator

	mu       sync.Mutex
	programs map[string]cel.Program
}

// NewEnvironment returns an environment whose variables have any type: what an
// expression does with them is found out when it is evaluated.
func NewEnvironment(vars ...string) (*Environment, error) {
	options := make([]cel.EnvOption, 0, len(vars))
	for _, name := range vars {
		options = append(options, cel.Variable(name, cel.DynType))
	}
	return extend(options...)
}

// Types describes the fields of object types that are not CEL's own.
type Types interface {
	// Has tells whether a type of that name exists.
	Has(typeName string) bool
	// Field gives the type of a field, and whether the type has it.
	Field(typeName, field string) (t *cel.Type, known bool)
}

// NewTypedEnvironment returns an environment whose variables have types. It is
// for checking: a field that a type does not have is an error.
func NewTypedEnvironment(known Types, vars map[string]*cel.Type) (*Environment, error) {
	base, err := baseEnvironment()
	if err != nil {
		return nil, err
	}
	options := []cel.EnvOption{cel.CustomTypeProvider(&provider{Provider: base.CELTypeProvider(), known: known})}
	for name, t := range vars {
		options = append(options, cel.Variable(name, t))
	}
	return extend(options...)
}

// provider answers for the types that are described, and leaves the rest to CEL.
type provider struct {
	types.Provider
	known Types
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if p.known.Has(name) {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if !p.known.Has(name) {
		return p.Provider.FindStructFieldType(name, field)
	}
	t, found := p.known.Field(name, field)
	if !found {
		return nil, false
	}
	return &types.FieldType{Type: t}, true
}

func extend(options ...cel.EnvOption) (*Environment, error) {
	base, err := baseEnvironment()
	if err != nil {
		return nil, err
	}
	env, err := base.Extend(options...)
	if err != nil {
		return nil, fmt.Errorf("declare variables of expressions: %w", err)
	}
	bound, err := boundCalls(env)
	if err != nil {
		return nil, err
	}
	return &Environment{cel: env, bound: bound, programs: map[string]cel.Program{}}, nil
}

// baseEnvironment has the functions that Kubernetes has in its own expressions,
// but for the authorizer, which would be I/O.
var baseEnvironment = sync.OnceValues(func() (*cel.Env, error) {
	env, err := cel.NewEnv(
		cel.HomogeneousAggregateLiterals(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.EnableIdentifierEscapeSyntax(),
		cel.OptionalTypes(),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
		ext.Strings(ext.StringsVersion(2)),
		ext.Sets(),
		ext.Lists(ext.ListsVersion(3)),
		ext.TwoVarComprehensions(),
		library.Lists(library.ListsVersion(1)),
		library.URLs(), library.Regex(), library.Quantity(), library.IP(), library.CIDR(), library.Format(),
		library.SemverLib(library.SemverVersion(1)),
	)
	if err != nil {
		return nil, fmt.Errorf("make the base environment of expressions: %w", err)
	}
	return env, nil
})

// Check compiles an expression: syntax, variables, fields and types. What is
// wrong is an *Error. The type is what the expression gives.
func (e *Environment) Check(x Expression) (*cel.Type, error) {
	checked, err := e.compile(x)
	if err != nil {
		return nil, err
	}
	return checked.OutputType(), nil
}

func (e *Environment) compile(x Expression) (*cel.Ast, error) {
	parsed, inserted, err := e.parse(x)
	if err != nil {
		return nil, err
	}
	checked, issues := e.cel.Check(parsed)
	if issues.Err() != nil {
		return nil, x.located(issues, inserted)
	}
	return checked, nil
}

// parse reads the syntax and writes components["x"] as a selection, so that
// both spellings mean the same from here on.
func (e *Environment) parse(x Expression) (*cel.Ast, []int, error) {
	if len(x.Text) > maxExpression {
		return nil, nil, errorAt(x.source, x.offset, "the expression is longer than %d bytes", maxExpression)
	}
	quoted, inserted := quoteNames(x.Text)
	parsed, issues := e.cel.Parse(quoted)
	if issues.Err() != nil {
		return nil, nil, x.located(issues, inserted)
	}
	factory := ast.NewExprFactory()
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(node ast.Expr) {
		if operand, name, ok := constantIndex(node); ok && isIdent(operand, Components) {
			node.SetKindCase(factory.NewSelect(node.ID(), operand, name))
		}
	}))
	return parsed, inserted, nil
}

// constantIndex recognises operand["name"].
func constantIndex(node ast.Expr) (operand ast.Expr, name string, ok bool) {
	if node.Kind() != ast.CallKind || node.AsCall().FunctionName() != operators.Index {
		return nil, "", false
	}
	args := node.AsCall().Args()
	if len(args) != 2 || args[1].Kind() != ast.LiteralKind {
		return nil, "", false
	}
	name, ok = args[1].AsLiteral().Value().(string)
	return args[0], name, ok
}

func isIdent(node ast.Expr, name string) bool {
	return node.Kind() == ast.IdentKind && node.AsIdent() == name
}

// program compiles for evaluation, once for each text.
func (e *Environment) program(x Expression) (cel.Program, error) {
	e.mu.Lock()
	program, known := e.programs[x.Text]
	e.mu.Unlock()
	if known {
		return program, nil
	}
	checked, err := e.compile(x)
	if err != nil {
		return nil, err
	}
	program, err = e.cel.Program(checked, cel.CustomDecorator(e.bound), cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost),
		cel.CostTracking(&costs{}), cel.CostLimit(costLimit))
	if err != nil {
		return nil, errorAt(x.source, x.offset, "%s", firstLine(err.Error()))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.programs) >= maxPrograms {
		clear(e.programs)
	}
	e.programs[x.Text] = program
	return program, nil
}

// located turns the first issue into an error at its place in the source.
func (x Expression) located(issues *cel.Issues, inserted []int) error {
	all := issues.Errors()
	if len(all) == 0 {
		return errorAt(x.source, x.offset, "%s", firstLine(issues.Err().Error()))
	}
	first := all[0]
	quoted, _ := quoteNames(x.Text)
	offset := byteOffset(quoted, first.Location.Line(), first.Location.Column())
	return errorAt(x.source, x.offset+originalOffset(offset, inserted), "%s", explain(first.Message))
}

// byteOffset of a line (from 1) and column (from 0, in characters).
func byteOffset(text string, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		end := strings.IndexByte(text[offset:], '\n')
		if end < 0 {
			break
		}
		offset += end + 1
	}
	rest := []rune(text[offset:])
	return offset + len(string(rest[:min(max(column, 0), len(rest))]))
}

// explain shortens CEL's words and adds what helps against the commonest mistake.
func explain(message string) string {
	message = firstLine(message)
	if strings.HasPrefix(message, "undeclared reference to") {
		message, _, _ = strings.Cut(message, " (in container")
		return strings.Replace(message, "undeclared reference to", "unknown variable or function", 1) +
			"; write $${ for a literal ${"
	}
	return message
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
