package hybridapplication

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/expression"
	"github.com/isthmus-dev/isthmus/internal/graph"
	"github.com/isthmus-dev/isthmus/internal/objects"
)

// The states of a component.
const (
	stateWaiting  = "Waiting"
	stateApplied  = "Applied"
	stateReady    = "Ready"
	stateUnknown  = "Unknown"
	stateFailed   = "Failed"
	stateDeleting = "Deleting"
)

// verdict is what was decided about a component.
type verdict struct {
	state     string
	message   string
	blockedBy []string
	// apply is set when the desired object has to be sent.
	apply bool
}

// facts are all that a decision is made from.
type facts struct {
	component
	// entry is what was recorded, or nil.
	entry *v1alpha1.InventoryEntry
	// notReady are the dependencies that are not ready.
	notReady []string
}

// decide says in what state a component is and whether its object is sent. It
// is a function of what was seen and recorded, and of nothing else.
func decide(f facts) verdict {
	switch {
	case objects.IsUnknownKind(f.problem), !f.node.Checked:
		return verdict{state: stateWaiting, message: fmt.Sprintf("the cluster does not know the kind %s in %s; it is looked up again",
			f.node.Object.Kind, f.node.Object.GroupVersion())}
	case objects.IsRefused(f.problem):
		return verdict{state: stateFailed, message: f.problem.Error()}
	case f.problem != nil:
		return verdict{state: stateUnknown, message: f.problem.Error()}
	case f.node.Access == graph.ReadOnly:
		return decideReadOnly(f)
	case f.live == nil:
		return decideAbsent(f)
	case f.live.GetDeletionTimestamp() != nil:
		return verdict{state: stateDeleting, message: "somebody deletes it; it is made anew when it is gone"}
	default:
		return decidePresent(f)
	}
}

func decideReadOnly(f facts) verdict {
	if f.live == nil {
		return verdict{state: stateWaiting, message: f.node.Object.String() + " does not exist yet"}
	}
	return stateOf(f.node, f.live)
}

// decideAbsent creates an object when all that it waits for is ready.
func decideAbsent(f facts) verdict {
	switch {
	case len(f.notReady) > 0:
		return verdict{state: stateWaiting, blockedBy: f.notReady, message: "waits for " + strings.Join(f.notReady, ", ")}
	case expression.IsNotYetKnown(f.renderError):
		return verdict{state: stateWaiting, message: f.renderError.Error()}
	case f.renderError != nil:
		return verdict{state: stateFailed, message: f.renderError.Error()}
	default:
		return verdict{state: stateApplied, apply: true}
	}
}

// decidePresent keeps an object as it was applied last, and changes it when all
// that it waits for is ready.
func decidePresent(f facts) verdict {
	now := stateOf(f.node, f.live)
	unchanged := f.entry != nil && f.entry.DesiredHash == f.hash && f.hash != ""
	switch {
	case expression.IsNotYetKnown(f.renderError):
		return hold(now, f.notReady, f.renderError.Error())
	case f.renderError != nil:
		return verdict{state: stateFailed, message: f.renderError.Error()}
	case unchanged && isAsApplied(f):
		return now
	case f.behindUnknown:
		return hold(now, f.notReady, "nothing is changed while the state of what it waits for cannot be known")
	case !unchanged && len(f.notReady) > 0:
		return hold(now, f.notReady, "a change waits for "+strings.Join(f.notReady, ", "))
	default:
		now.apply = true
		return now
	}
}

// hold leaves the object as it is. A component that is held is not called
// ready, because it is not as declared.
func hold(now verdict, blockedBy []string, why string) verdict {
	if now.state == stateReady || now.state == stateApplied {
		return verdict{state: stateWaiting, message: why, blockedBy: blockedBy}
	}
	return now
}

// isAsApplied tells whether nobody has changed what we applied. An object with
// the version that was recorded cannot differ; any other is compared.
func isAsApplied(f facts) bool {
	return f.live.GetResourceVersion() == f.entry.ResourceVersion || objects.Contains(f.live.Object, f.desired.Object)
}

// stateOf reads what the object says about itself. readyWhen replaces the rules
// of kstatus for being ready, and not those for being broken or unknown.
func stateOf(node *graph.Node, live *unstructured.Unstructured) verdict {
	readiness, message := objects.ReadinessOf(live)
	switch readiness {
	case objects.Unknown:
		return verdict{state: stateUnknown, message: message}
	case objects.Terminating:
		return verdict{state: stateDeleting, message: message}
	}
	if node.HasReadyWhen() {
		return byReadyWhen(node, live, readiness, message)
	}
	switch readiness {
	case objects.Ready:
		return verdict{state: stateReady}
	case objects.Failed:
		return verdict{state: stateFailed, message: message}
	default:
		return verdict{state: stateApplied, message: message}
	}
}

func byReadyWhen(node *graph.Node, live *unstructured.Unstructured, readiness objects.Readiness, message string) verdict {
	if !objects.HasSeenSpec(live) {
		return verdict{state: stateApplied, message: "its controller has not seen the change yet"}
	}
	ready, waitingFor, err := node.ReadyWhen(live.Object)
	switch {
	case err != nil:
		return verdict{state: stateFailed, message: err.Error()}
	case ready:
		return verdict{state: stateReady}
	case readiness == objects.Failed:
		return verdict{state: stateFailed, message: message}
	default:
		return verdict{state: stateApplied, message: "not ready until " + waitingFor}
	}
}
