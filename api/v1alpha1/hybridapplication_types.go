package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// GraphAcceptedCondition tells whether the components form a graph that can be carried out.
const GraphAcceptedCondition = "GraphAccepted"

// Reasons of a HybridApplication's conditions, beside the common ones.
const (
	// ReasonAccepted: the graph can be carried out.
	ReasonAccepted = "Accepted"
	// ReasonCycle: components wait for each other in a circle; the message lists it.
	ReasonCycle = "Cycle"
	// ReasonUnknownReference: an expression or dependsOn names no component or field.
	ReasonUnknownReference = "UnknownReference"
	// ReasonInvalidExpression: an expression does not compile; the message names component, field and column.
	ReasonInvalidExpression = "InvalidExpression"
	// ReasonInvalidManifest: a manifest cannot be applied as it is written.
	ReasonInvalidManifest = "InvalidManifest"
	// ReasonComponentsNotReady: components are applied and not all are ready yet.
	ReasonComponentsNotReady = "ComponentsNotReady"
	// ReasonComponentUnknown: the state of a component cannot be known now, such as behind a host that does not answer.
	ReasonComponentUnknown = "ComponentUnknown"
	// ReasonComponentFailed: a component needs a person.
	ReasonComponentFailed = "ComponentFailed"
	// ReasonApplyFailed: the API server refused an object; the message says which and why.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonForbidden: the application's ServiceAccount lacks a permission; the message says which.
	ReasonForbidden = "Forbidden"
	// ReasonPruning: objects that left the graph are being removed.
	ReasonPruning = "Pruning"
)

// HybridApplicationSpec is a graph of components.
type HybridApplicationSpec struct {
	// ServiceAccountName in the same namespace, as which every object is applied and
	// deleted: the application can do what it may do, and no more.
	// +optional
	// +kubebuilder:default=default
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// Components of the application. Their order here means nothing; edges come
	// from ${components.NAME...} expressions and dependsOn.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=200
	Components []Component `json:"components"`
	// Outputs with ${...} expressions over components, shown in status.outputs.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Outputs map[string]string `json:"outputs,omitempty"`
	// Suspend pauses everything but deletion.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// Component is one object of the graph.
// +kubebuilder:validation:XValidation:rule="[has(self.manifest), has(self.external), has(self.ref)].filter(x, x).size() == 1",message="set exactly one of manifest, external and ref"
type Component struct {
	// Name by which others refer to it.
	// +required
	// +kubebuilder:validation:MaxLength=50
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// DependsOn adds edges to those that expressions make.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MaxLength=50
	DependsOn []string `json:"dependsOn,omitempty"`
	// Manifest of any Kubernetes object, with ${...} expressions in its strings.
	// Its name defaults to APPLICATION-COMPONENT, its namespace is the application's.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	Manifest *runtime.RawExtension `json:"manifest,omitempty"`
	// External is the spec of an ExternalService named APPLICATION-COMPONENT, with ${...} expressions in its strings.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	External *runtime.RawExtension `json:"external,omitempty"`
	// Ref names an object that is read and never written.
	// +optional
	Ref *ObjectReference `json:"ref,omitempty"`
	// ReadyWhen are CEL expressions over self (the object) that must all hold.
	// Default: what kubectl wait and Argo CD would call ready.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=1024
	ReadyWhen []string `json:"readyWhen,omitempty"`
	// DeletionPolicy: Delete, or Orphan to leave the object when it leaves the graph or the application is deleted.
	// +optional
	// +kubebuilder:default=Delete
	// +kubebuilder:validation:Enum=Delete;Orphan
	DeletionPolicy string `json:"deletionPolicy,omitempty"`
}

// ObjectReference names an object in the application's namespace.
type ObjectReference struct {
	// APIVersion such as v1 or apps/v1.
	// +required
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`
	// Kind of the object.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the object.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// HybridApplicationStatus is what is known of the application.
type HybridApplicationStatus struct {
	Status `json:",inline"`
	// Components in the order in which they are applied.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=200
	Components []ComponentStatus `json:"components,omitempty"`
	// ReadyComponents counts, as "2/3".
	// +optional
	// +kubebuilder:validation:MaxLength=16
	ReadyComponents string `json:"readyComponents,omitempty"`
	// Outputs by name.
	// +optional
	Outputs map[string]string `json:"outputs,omitempty"`
	// Inventory lists all that was applied, recorded before it was, in the order of
	// the graph. Deletion walks it backwards.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Inventory []InventoryEntry `json:"inventory,omitempty"`
}

// ComponentStatus is what is known of a component.
type ComponentStatus struct {
	// Name of the component.
	Name string `json:"name"`
	// Kind of its object.
	// +optional
	Kind string `json:"kind,omitempty"`
	// Object is its name.
	// +optional
	Object string `json:"object,omitempty"`
	// State: Waiting, Applied, Ready, Unknown, Failed, Deleting.
	State string `json:"state"`
	// Message says why.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// BlockedBy names the components that are waited for.
	// +optional
	// +listType=atomic
	BlockedBy []string `json:"blockedBy,omitempty"`
	// Since is when the state was entered.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
}

// InventoryEntry is an object that the application applied.
type InventoryEntry struct {
	// Component that it belongs to.
	Component string `json:"component"`
	// APIVersion of the object.
	APIVersion string `json:"apiVersion"`
	// Kind of the object.
	Kind string `json:"kind"`
	// Namespace of the object; empty for one of the cluster.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Name of the object.
	Name string `json:"name"`
	// UID once it is known: what has another UID is not deleted.
	// +optional
	UID string `json:"uid,omitempty"`
	// Order: an entry is deleted when all with a greater order are gone.
	Order int32 `json:"order"`
	// DesiredHash of the manifest that was applied last.
	// +optional
	DesiredHash string `json:"desiredHash,omitempty"`
	// ResourceVersion after the last apply, or after the last visit that found it as applied.
	// +optional
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// DeletionPolicy when it was applied.
	// +optional
	DeletionPolicy string `json:"deletionPolicy,omitempty"`
	// ServiceAccountName as which it was applied, and is deleted.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// HybridApplication is an application with parts inside and outside the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=happ,categories=isthmus
// +kubebuilder:printcolumn:name="Components",type=string,JSONPath=`.status.readyComponents`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type HybridApplication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the graph.
	// +required
	Spec HybridApplicationSpec `json:"spec"`
	// Status is what is known.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status HybridApplicationStatus `json:"status,omitempty"`
}

// HybridApplicationList is a list of HybridApplications.
// +kubebuilder:object:root=true
type HybridApplicationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HybridApplication `json:"items"`
}
