package objects

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// PartOfLabel names the application that an object belongs to, as ApplySets do (KEP-3659).
const PartOfLabel = "applyset.kubernetes.io/part-of"

// Reference names an object. Namespace is empty for objects of the cluster.
type Reference struct {
	schema.GroupVersionKind
	Namespace string
	Name      string
}

// String is what messages call it.
func (r Reference) String() string { return r.Kind + " " + r.Name }

// SameObject tells whether two references mean one object, whatever the version.
func (r Reference) SameObject(other Reference) bool {
	return r.GroupKind() == other.GroupKind() && r.Namespace == other.Namespace && r.Name == other.Name
}

// SetID is the ApplySet ID of an application, the value of PartOfLabel.
func SetID(application types.NamespacedName) string {
	sum := sha256.Sum256([]byte(application.Name + "." + application.Namespace + ".HybridApplication." + v1alpha1.GroupVersion.Group))
	return "applyset-" + base64.RawURLEncoding.EncodeToString(sum[:]) + "-v1"
}

// Desired makes the object to apply out of a rendered manifest: its identity,
// and the labels by which it is known as ours.
func Desired(manifest map[string]any, ref Reference, setID string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: manifest}
	object.SetGroupVersionKind(ref.GroupVersionKind)
	object.SetName(ref.Name)
	object.SetNamespace(ref.Namespace)
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[v1alpha1.ManagedByLabel] = v1alpha1.ManagedByValue
	labels[PartOfLabel] = setID
	object.SetLabels(labels)
	return object
}

// Hash is the digest of a desired object.
func Hash(desired *unstructured.Unstructured) (string, error) {
	// Keys of maps are sorted by encoding/json, so that equal objects have equal digests.
	raw, err := json.Marshal(desired.Object)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", desired.GetName(), err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16]), nil
}

// Ours returns an error if the live object does not belong to the application:
// neither has it the UID that was recorded, nor our label.
func Ours(live *unstructured.Unstructured, recordedUID, setID string) error {
	if recordedUID != "" && string(live.GetUID()) == recordedUID {
		return nil
	}
	labels := live.GetLabels()
	if labels[PartOfLabel] == setID {
		return nil
	}
	owner := labels[v1alpha1.ManagedByLabel]
	if owner == v1alpha1.ManagedByValue {
		owner = "another application"
	}
	ref := Reference{GroupVersionKind: live.GroupVersionKind(), Namespace: live.GetNamespace(), Name: live.GetName()}
	return &NotOursError{Object: ref, Owner: owner}
}

// Contains tells whether the live object has all that is desired. It errs on
// the side of no: values that the API server writes in another form (quantities,
// lists to which others have added) count as different, and applying them again
// changes nothing.
func Contains(live, desired any) bool {
	switch want := desired.(type) {
	case map[string]any:
		have, ok := live.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range want {
			if got, there := have[key]; value != nil && !(there && Contains(got, value)) {
				return false
			}
		}
		return true
	case []any:
		have, ok := live.([]any)
		if !ok || len(have) != len(want) {
			return false
		}
		for i := range want {
			if !Contains(have[i], want[i]) {
				return false
			}
		}
		return true
	default:
		return live == desired
	}
}

// Latest as the version that a read must not be before, asks the API server itself.
const Latest = "latest"

// isOlder tells whether a resourceVersion is before another. What cannot be
// compared counts as older, so that the API server is asked.
func isOlder(version, floor string) bool {
	if floor == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(version, floor)
	return err != nil || order < 0
}
