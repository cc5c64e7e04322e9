package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalServiceStatus is what is known of the service.
type ExternalServiceStatus struct {
	Status `json:",inline"`
	// Observed is what the host says.
	// +optional
	Observed *ObservedService `json:"observed,omitempty"`
	// Drift lists what differs from the spec. Values of secrets are digests.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Drift []Difference `json:"drift,omitempty"`
	// Execution is the job under way, or the last one that failed.
	// +optional
	Execution *Execution `json:"execution,omitempty"`
	// Executions counts the finished executions; it makes the ids of jobs unique.
	// +optional
	Executions int64 `json:"executions,omitempty"`
	// Outputs by name.
	// +optional
	Outputs map[string]string `json:"outputs,omitempty"`
	// Endpoint inside the cluster.
	// +optional
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// LastAppliedHash is the digest of the desired state that was last found or put in place.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	LastAppliedHash string `json:"lastAppliedHash,omitempty"`
	// Inventory is what was put on the host, recorded before it was: deletion works from it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=200
	Inventory []ManagedThing `json:"inventory,omitempty"`
	// Corrections made within the last hour; too many stop correcting (reason Fighting).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Corrections []metav1.Time `json:"corrections,omitempty"`
	// Host is "namespace/name" of the Host that the inventory is on.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	Host string `json:"host,omitempty"`
	// LastHandledCancelAt is the value of the last cancel request that was answered.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledCancelAt string `json:"lastHandledCancelAt,omitempty"`
	// History of the last five executions, the newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	History []ExecutionRecord `json:"history,omitempty"`
}

// ObservedService is what the host says of the service.
type ObservedService struct {
	// State: Running, Stopped, Starting, Stopping, Failed, Absent, or what the service manager calls it;
	// of a script InSync or Differs.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	State string `json:"state,omitempty"`
	// Message is the last line that the script's observe printed.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// PID of the main process.
	// +optional
	PID int64 `json:"pid,omitempty"`
	// StartMode at boot, in the service manager's words.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	StartMode string `json:"startMode,omitempty"`
	// Since is when the running instance started, by the host's clock.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Since string `json:"since,omitempty"`
}

// Difference between what is declared and what is there.
type Difference struct {
	// Path of the field: files[/etc/x].content, systemd.enabled, state.
	Path string `json:"path"`
	// Desired value, or a digest.
	// +optional
	Desired string `json:"desired,omitempty"`
	// Observed value, or a digest.
	// +optional
	Observed string `json:"observed,omitempty"`
}

// Execution is a job on the host.
type Execution struct {
	// ID of the job; its receipt on the host has the same name.
	ID string `json:"id"`
	// Digest of what the job does.
	Digest string `json:"digest"`
	// Attempt, from 1.
	Attempt int32 `json:"attempt"`
	// DesiredHash is the digest of the desired state that the job puts in place.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	DesiredHash string `json:"desiredHash,omitempty"`
	// StartedAt is when the job was recorded, before the host was asked to begin it.
	StartedAt metav1.Time `json:"startedAt"`
	// ObservedAt is the time of the observation that State rests on: nothing more is
	// concluded from it, a later one is awaited.
	// +optional
	ObservedAt *metav1.MicroTime `json:"observedAt,omitempty"`
	// State: Requested, Running, Succeeded (until the host was looked at again), Failed, Unknown, Cancelled.
	State ExecutionState `json:"state"`
	// Idempotent is false for a job that must not be repeated when its outcome is not known:
	// it runs a script that does not say spec.script.idempotent.
	// +optional
	Idempotent *bool `json:"idempotent,omitempty"`
	// Applies: the job runs spec.script.apply, so observe must find nothing left to do after it.
	// +optional
	Applies bool `json:"applies,omitempty"`
	// CancelRequested: the end of the job was asked for, by a cancel request or a deletion.
	// +optional
	CancelRequested bool `json:"cancelRequested,omitempty"`
	// Message of a failed job: its last lines, redacted.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`
	// Reason for the job: Create, Update, Drift, Delete, or Record for one that only
	// writes down on the host what is so already.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Changes that the job makes, as shown in events.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Changes []string `json:"changes,omitempty"`
	// Steps of the job in order, as failures name them; the first hundred.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Steps []string `json:"steps,omitempty"`
	// RetryAt is when a failed job is repeated.
	// +optional
	RetryAt *metav1.Time `json:"retryAt,omitempty"`
}

// ExecutionState is how far a job has come.
// +kubebuilder:validation:Enum=Requested;Running;Succeeded;Failed;Unknown;Cancelled
type ExecutionState string

// The states of an execution.
const (
	ExecutionRequested ExecutionState = "Requested"
	ExecutionRunning   ExecutionState = "Running"
	ExecutionSucceeded ExecutionState = "Succeeded"
	ExecutionFailed    ExecutionState = "Failed"
	ExecutionUnknown   ExecutionState = "Unknown"
	ExecutionCancelled ExecutionState = "Cancelled"
)

// ExecutionRecord is a finished execution.
type ExecutionRecord struct {
	// ID of the job.
	ID string `json:"id"`
	// Reason for the job.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Outcome: Succeeded, Failed, Unknown, Cancelled.
	Outcome ExecutionState `json:"outcome"`
	// FinishedAt is when the outcome was seen.
	FinishedAt metav1.Time `json:"finishedAt"`
	// Summary of the changes.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Summary string `json:"summary,omitempty"`
}

// Endpoint is the face of the service inside the cluster.
type Endpoint struct {
	// ServiceName in the same namespace.
	ServiceName string `json:"serviceName"`
	// Address behind it.
	// +optional
	Address string `json:"address,omitempty"`
	// Ready tells whether the endpoint takes traffic.
	Ready bool `json:"ready"`
	// ClusterIP of the Service.
	// +optional
	ClusterIP string `json:"clusterIP,omitempty"`
}

// ManagedThing is something that was put on the host.
type ManagedThing struct {
	// Kind: File, SystemdUnit, WindowsService, Script.
	Kind string `json:"kind"`
	// Name: the path of a file, the name of a unit or service, "namespace/name" of a script's object.
	Name string `json:"name"`
	// Defined tells whether its definition is ours (a unit file, a created service), or only its state.
	// +optional
	Defined bool `json:"defined,omitempty"`
	// Adopted: it was there before.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
	// Enabled: it was enabled at boot because the spec said so.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
	// State that a service was held in.
	// +optional
	State ServiceState `json:"state,omitempty"`
	// Script is what removes a component that is managed by scripts.
	// +optional
	Script *RecordedScript `json:"script,omitempty"`
}

// RecordedScript is what a removal needs when the spec does not say it any longer.
type RecordedScript struct {
	// Remove is the text of spec.script.remove; empty: the component is left behind.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Remove string `json:"remove,omitempty"`
	// Interpreter of the script.
	// +optional
	Interpreter string `json:"interpreter,omitempty"`
	// Environment of the script: plain values, and the names of the Secrets of the others.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Environment []EnvironmentVariable `json:"environment,omitempty"`
	// Idempotent as in spec.script.
	// +optional
	Idempotent bool `json:"idempotent,omitempty"`
}
