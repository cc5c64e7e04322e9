package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Names that Isthmus writes on objects.
const (
	// Prefix of labels and annotations that belong to Isthmus; refused in users' manifests.
	Prefix = "isthmus.dev/"
	// Finalizer is held while something outside, or recorded in an inventory, must be removed first.
	Finalizer = "isthmus.dev/finalizer"
	// ReconcileRequestAnnotation asks for a pass now; its value is answered in status.lastHandledReconcileAt.
	ReconcileRequestAnnotation = "isthmus.dev/reconcile-requested-at"
	// FluxReconcileRequestAnnotation is Flux's spelling of the same request.
	FluxReconcileRequestAnnotation = "reconcile.fluxcd.io/requestedAt"
	// ManagedByLabel and ManagedByValue mark objects that Isthmus made.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the value of ManagedByLabel.
	ManagedByValue = "isthmus"
	// FieldManager is the server-side apply field manager of everything that Isthmus applies.
	FieldManager = "isthmus"
)

// Condition types that several kinds have.
const (
	// ReadyCondition sums an object up: True when it is as declared, Unknown while
	// that is being worked on or cannot be known, False when a person is needed.
	ReadyCondition = "Ready"
	// ReconcilingCondition is present, and True, only while the object is being worked on.
	ReconcilingCondition = "Reconciling"
	// StalledCondition is present, and True, only when nothing will change until a person acts.
	StalledCondition = "Stalled"
	// DriftedCondition is True while what is there differs from what is declared.
	DriftedCondition = "Drifted"
	// HealthyCondition is the result of readiness probes and the service manager's word.
	HealthyCondition = "Healthy"
	// HostReachableCondition tells whether the Host behind an object answers.
	HostReachableCondition = "HostReachable"
)

// Reasons that several kinds use. Each kind's file lists its own.
const (
	// ReasonSucceeded: everything is as declared.
	ReasonSucceeded = "Succeeded"
	// ReasonProgressingWithRetry: an attempt failed and will be repeated.
	ReasonProgressingWithRetry = "ProgressingWithRetry"
	// ReasonSuspended: spec.suspend is set; nothing is done but deletion.
	ReasonSuspended = "Suspended"
	// ReasonInvalid: the spec cannot be carried out as written.
	ReasonInvalid = "Invalid"
	// ReasonHostUnreachable: the Host does not answer; nothing is touched.
	ReasonHostUnreachable = "HostUnreachable"
	// ReasonDeleting: the object is being deleted.
	ReasonDeleting = "Deleting"
)

// LocalReference names an object in the same namespace.
type LocalReference struct {
	// Name of the object, in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// KeyReference names a key of a ConfigMap or Secret in the same namespace.
type KeyReference struct {
	// Name of the ConfigMap or Secret, in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in its data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// Status is what the status of every kind begins with.
type Status struct {
	// ObservedGeneration is the generation of the spec that this status speaks of; -1 before the first visit.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready sums up; the page of the kind explains the others.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// LastHandledReconcileAt is the value of the last reconcile request that was answered.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
}

// RequestedAt is the value of the object's reconcile request, if it has one.
func RequestedAt(annotations map[string]string) string {
	if value := annotations[ReconcileRequestAnnotation]; value != "" {
		return value
	}
	return annotations[FluxReconcileRequestAnnotation]
}
