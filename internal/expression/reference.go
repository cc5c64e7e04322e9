package expression

import (
	"fmt"
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
)

// Reference is one use of a component in an expression.
type Reference struct {
	// Name of the component.
	Name string
	// Path of what is read of it, as far as it is written out: status, outputs, url.
	Path []string
	// At is where the use begins, as an error without a message.
	At Error
}

// References lists the components that an expression reads, in the order of
// the text. It fails where the expression uses components as a whole, or by a
// name that is computed, because then the graph cannot be known beforehand.
func (e *Environment) References(x Expression) ([]Reference, error) {
	parsed, inserted, err := e.parse(x)
	if err != nil {
		return nil, err
	}
	locate := func(node ast.Expr) *Error {
		start := parsed.NativeRep().SourceInfo().GetStartLocation(node.ID())
		quoted, _ := quoteNames(x.Text)
		offset := byteOffset(quoted, start.Line(), start.Column())
		return errorAt(x.source, x.offset+originalOffset(offset, inserted), "")
	}
	w := &referenceWalk{locate: locate}
	w.visit(parsed.NativeRep().Expr())
	return w.found, w.err
}

// referenceWalk goes through an expression and collects the chains that begin at components.
type referenceWalk struct {
	locate   func(ast.Expr) *Error
	shadowed []string
	found    []Reference
	err      error
}

func (w *referenceWalk) visit(node ast.Expr) {
	if root, path := chain(node); root != nil && isIdent(root, Components) && !slices.Contains(w.shadowed, Components) {
		w.add(root, path)
		w.visitIndexes(node)
		return
	}
	switch node.Kind() {
	case ast.SelectKind:
		w.visit(node.AsSelect().Operand())
	case ast.CallKind:
		w.visitCall(node.AsCall())
	case ast.ListKind:
		w.visitAll(node.AsList().Elements())
	case ast.MapKind:
		for _, entry := range node.AsMap().Entries() {
			w.visit(entry.AsMapEntry().Key())
			w.visit(entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		w.visitComprehension(node.AsComprehension())
	}
}

func (w *referenceWalk) visitAll(nodes []ast.Expr) {
	for _, node := range nodes {
		w.visit(node)
	}
}

func (w *referenceWalk) visitCall(call ast.CallExpr) {
	if call.IsMemberFunction() {
		w.visit(call.Target())
	}
	w.visitAll(call.Args())
}

// visitIndexes finds references inside computed indexes along a chain: a.b[components.c.n].
func (w *referenceWalk) visitIndexes(node ast.Expr) {
	for {
		operand, step, ok := oneStep(node)
		if !ok {
			return
		}
		if step != nil && step.Kind() != ast.LiteralKind {
			w.visit(step)
		}
		node = operand
	}
}

// visitComprehension heeds that a macro's own variables hide ours.
func (w *referenceWalk) visitComprehension(c ast.ComprehensionExpr) {
	w.visit(c.IterRange())
	w.visit(c.AccuInit())
	before := w.shadowed
	w.shadowed = append(slices.Clone(before), c.IterVar(), c.IterVar2(), c.AccuVar())
	w.visitAll([]ast.Expr{c.LoopCondition(), c.LoopStep(), c.Result()})
	w.shadowed = before
}

func (w *referenceWalk) add(root ast.Expr, path []string) {
	at := w.locate(root)
	if len(path) == 0 || path[0] == "" {
		if w.err == nil {
			at.Message = `components must be followed by the name of one: components.NAME or components["NAME"]`
			w.err = at
		}
		return
	}
	rest := path[1:]
	if computed := slices.Index(rest, ""); computed >= 0 {
		rest = rest[:computed]
	}
	w.found = append(w.found, Reference{Name: path[0], Path: rest, At: *at})
}

// chain follows selections and indexes down to where they begin. A computed
// index is an empty step.
func chain(node ast.Expr) (root ast.Expr, path []string) {
	for {
		operand, step, ok := oneStep(node)
		if !ok {
			break
		}
		switch {
		case step == nil:
			path = append(path, node.AsSelect().FieldName())
		case step.Kind() == ast.LiteralKind:
			path = append(path, fmt.Sprint(step.AsLiteral().Value()))
		default:
			path = append(path, "")
		}
		node = operand
	}
	slices.Reverse(path)
	return node, path
}

// oneStep undoes one selection or index. step is nil for a selection by field name.
func oneStep(node ast.Expr) (operand, step ast.Expr, ok bool) {
	switch node.Kind() {
	case ast.SelectKind:
		return node.AsSelect().Operand(), nil, true
	case ast.CallKind:
		call := node.AsCall()
		switch call.FunctionName() {
		case operators.Index, operators.OptIndex, operators.OptSelect:
			return call.Args()[0], call.Args()[1], true
		}
	}
	return nil, nil, false
}
