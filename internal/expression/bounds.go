package expression

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apiserver/pkg/cel/library"
)

const (
	// maxSize bounds a value, in bytes of text and in elements: more than any object of an API server has.
	maxSize = 4 << 20
	// maxComparisons bounds a call that compares each element with each, in elements.
	maxComparisons = 10 * costLimit
	// compared is how many bytes of a text compare as fast as an element.
	compared = 64
)

// heavy are the functions whose work, or result, may be much larger than their
// arguments, or than these seem: a list that holds one list a thousand times, and so on a
// few times over, fits into a line and has more elements than there is memory. CEL
// counts what a call has cost when it is over, which is too late for these. Each tells
// whether it would be too much.
var heavy = map[string]func(args []ref.Val) bool{
	"replace":           replaceIsHeavy,
	"join":              joinIsHeavy,
	"format":            func(args []ref.Val) bool { return weigh(args[len(args)-1], maxSize, 1) > maxSize },
	operators.Equals:    func(args []ref.Val) bool { return equalIsHeavy(args[0], args[1]) },
	operators.NotEquals: func(args []ref.Val) bool { return equalIsHeavy(args[0], args[1]) },
	operators.In:        func(args []ref.Val) bool { return searchIsHeavy(args[1], args[0]) },
	"indexOf":           isLarge,
	"lastIndexOf":       isLarge,
	"includes":          isLarge,
	"sum":               isLarge,
	"min":               isLarge,
	"max":               isLarge,
	"isSorted":          isLarge,
	"distinct":          func(args []ref.Val) bool { return pairsAreHeavy(args[0], args[0]) },
	"sets.contains":     func(args []ref.Val) bool { return pairsAreHeavy(args[0], args[1]) },
	"sets.equivalent":   func(args []ref.Val) bool { return pairsAreHeavy(args[0], args[1]) },
	"sets.intersects":   func(args []ref.Val) bool { return pairsAreHeavy(args[0], args[1]) },
}

// costs are those of Kubernetes. What failed is not looked into, because it may be
// what was too heavy to look into.
type costs struct{ library.CostEstimator }

// CallCost implements interpreter.ActualCostEstimator.
func (c *costs) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	if types.IsError(result) {
		return new(uint64)
	}
	return c.CostEstimator.CallCost(function, overload, args, result)
}

// boundCalls has the calls of heavy functions fail before they begin what they should not.
func boundCalls(env *cel.Env) (interpreter.InterpretableDecorator, error) {
	implementations := map[string]*functions.Overload{}
	for name := range heavy {
		bindings, err := env.Functions()[name].Bindings()
		if err != nil {
			return nil, fmt.Errorf("look up the function %s: %w", name, err)
		}
		for _, binding := range bindings {
			implementations[binding.Operator] = binding
		}
	}
	return func(i interpreter.Interpretable) (interpreter.Interpretable, error) {
		call, isCall := i.(interpreter.InterpretableCall)
		if !isCall || heavy[call.Function()] == nil {
			return i, nil
		}
		carryOut := implementation(call, implementations)
		if carryOut == nil {
			return i, nil
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
			if heavy[call.Function()](args) {
				return types.NewErr("cost limit: %s would take too much time or memory", strings.Trim(call.Function(), "_@"))
			}
			return carryOut(args...)
		}), nil
	}, nil
}

// implementation of a call; nil: it is none of those that are known.
func implementation(call interpreter.InterpretableCall, known map[string]*functions.Overload) functions.FunctionOp {
	switch call.Function() { // as the interpreter has them
	case operators.Equals:
		return func(args ...ref.Val) ref.Val { return types.Equal(args[0], args[1]) }
	case operators.NotEquals:
		return func(args ...ref.Val) ref.Val { return types.Bool(types.Equal(args[0], args[1]) != types.True) }
	}
	found := known[call.OverloadID()]
	if found == nil {
		found = known[call.Function()]
	}
	switch n := len(call.Args()); {
	case found == nil:
		return nil
	case n == 1 && found.Unary != nil:
		return func(args ...ref.Val) ref.Val { return found.Unary(args[0]) }
	case n == 2 && found.Binary != nil:
		return func(args ...ref.Val) ref.Val { return found.Binary(args[0], args[1]) }
	default:
		return found.Function
	}
}

func replaceIsHeavy(args []ref.Val) bool {
	text, isText := args[0].(types.String)
	old, alsoText := args[1].(types.String)
	with, areText := args[2].(types.String)
	if !isText || !alsoText || !areText {
		return false // Such a call fails by itself.
	}
	return len(text)+strings.Count(string(text), string(old))*max(len(with)-len(old), 0) > maxSize
}

func joinIsHeavy(args []ref.Val) bool {
	between := 0
	if len(args) == 2 {
		if text, isText := args[1].(types.String); isText {
			between = len(text)
		}
	}
	return weigh(args[0], maxSize, 1)+elements(args[0])*between > maxSize
}

// equalIsHeavy: two values are compared no further than the smaller of them goes.
func equalIsHeavy(a, b ref.Val) bool {
	return !isScalar(a) && !isScalar(b) && weigh(a, maxSize, compared) > maxSize && weigh(b, maxSize, compared) > maxSize
}

// isLarge: the cost of these is counted element by element.
func isLarge(args []ref.Val) bool { return weigh(args[0], maxSize, compared) > maxSize }

func searchIsHeavy(in, what ref.Val) bool {
	_, isList := in.(traits.Lister)
	return isList && !isScalar(what) && weigh(in, maxSize, compared) > maxSize
}

func pairsAreHeavy(a, b ref.Val) bool {
	return elements(a)*weigh(b, maxComparisons, compared) > maxComparisons
}

func isScalar(value ref.Val) bool {
	switch value.(type) {
	case traits.Lister, traits.Mapper:
		return false
	}
	return true
}

func elements(value ref.Val) int {
	if list, isList := value.(traits.Lister); isList {
		if size, known := list.Size().(types.Int); known {
			return int(size)
		}
	}
	return 0
}

// weigh counts the elements of a value, and its text in units of so many bytes. It
// stops soon after the limit, whatever the value.
func weigh(value ref.Val, limit, unit int) int {
	total := 1
	switch v := value.(type) {
	case types.String:
		total += len(v) / unit
	case types.Bytes:
		total += len(v) / unit
	case traits.Mapper:
		for it := v.Iterator(); total <= limit && it.HasNext() == types.True; {
			name := it.Next()
			total += weigh(name, limit-total, unit) + weigh(v.Get(name), limit-total, unit)
		}
	case traits.Lister:
		for it := v.Iterator(); total <= limit && it.HasNext() == types.True; {
			total += weigh(it.Next(), limit-total, unit)
		}
	case *types.Optional:
		if v.HasValue() {
			total += weigh(v.GetValue(), limit-total, unit)
		}
	}
	return total
}
