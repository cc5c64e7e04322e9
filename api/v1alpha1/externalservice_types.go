package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Reasons of an ExternalService's conditions, beside the common ones.
const (
	// ReasonHostNotFound: spec.hostRef names no Host.
	ReasonHostNotFound = "HostNotFound"
	// ReasonHostNotAllowed: the Host does not allow this namespace.
	ReasonHostNotAllowed = "HostNotAllowed"
	// ReasonHostNotReady: the Host refuses us, or may not be used now; its own conditions say why.
	ReasonHostNotReady = "HostNotReady"
	// ReasonReferenceNotFound: a ConfigMap, Secret or key that the spec names is missing.
	ReasonReferenceNotFound = "ReferenceNotFound"
	// ReasonNotOurs: the service or file is there and belongs to somebody else; see spec.adoption.
	ReasonNotOurs = "NotOurs"
	// ReasonApplying: a job on the host is changing it.
	ReasonApplying = "Applying"
	// ReasonOutcomeUnknown: a job began on the host and its outcome cannot be known. The host is looked at again;
	// what may not be run twice waits for a person.
	ReasonOutcomeUnknown = "OutcomeUnknown"
	// ReasonWaiting: the service manager is starting or stopping the service.
	ReasonWaiting = "Waiting"
	// ReasonNotHealthy: readiness probes, or the service manager, say that it does not work.
	ReasonNotHealthy = "NotHealthy"
	// ReasonHealthy: readiness probes and the service manager say that it works.
	ReasonHealthy = "Healthy"
	// ReasonFailed: several attempts to change the host failed in a row, and more follow; the message says at which step.
	ReasonFailed = "Failed"
	// ReasonInSync: what is there is what is declared.
	ReasonInSync = "InSync"
	// ReasonDriftDetected: what is there differs from what is declared.
	ReasonDriftDetected = "DriftDetected"
	// ReasonMaintenance: the Host is in maintenance; it is observed and not changed.
	ReasonMaintenance = "Maintenance"
	// ReasonFighting: something on the host keeps undoing the correction; correcting has stopped.
	ReasonFighting = "Fighting"
	// ReasonConflict: a Service or EndpointSlice of that name exists and is not ours.
	ReasonConflict = "Conflict"
	// ReasonStopped: spec.state is Stopped, and so is the service.
	ReasonStopped = "Stopped"
	// ReasonBlocked: something on the host stands in the way; the message names it and the way out.
	ReasonBlocked = "Blocked"
	// ReasonCancelled: the last job was cancelled, and nothing is done until the spec changes or a pass is asked for.
	ReasonCancelled = "Cancelled"
	// ReasonObservationFailed: part of the host cannot be looked at; nothing is touched until it can.
	ReasonObservationFailed = "ObservationFailed"
)

// AbandonAnnotation with the value "true" on a deleted ExternalService lets it go
// although its Host cannot be reached; what is on the host stays there.
const AbandonAnnotation = Prefix + "abandon"

// CancelRequestAnnotation asks for the end of the job that runs now; its value is answered in status.lastHandledCancelAt.
const CancelRequestAnnotation = Prefix + "cancel-requested-at"

// ExternalServiceSpec is the desired state of one thing on a Host.
// +kubebuilder:validation:XValidation:rule="(has(self.systemd) ? 1 : 0) + (has(self.windowsService) ? 1 : 0) + (has(self.script) ? 1 : 0) <= 1",message="set at most one of spec.systemd, spec.windowsService and spec.script"
// +kubebuilder:validation:XValidation:rule="has(self.systemd) || has(self.windowsService) || has(self.script) || (has(self.files) && size(self.files) > 0)",message="nothing to manage: set spec.systemd, spec.windowsService, spec.script or spec.files"
// +kubebuilder:validation:XValidation:rule="!has(self.expose) || (has(self.ports) && size(self.ports) > 0)",message="spec.expose needs at least one entry in spec.ports"
type ExternalServiceSpec struct {
	// HostRef names the Host. To move a service to another host, delete it and create it anew.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.hostRef cannot change: the old host would keep the service; create a second ExternalService and delete this one"
	HostRef HostReference `json:"hostRef"`
	// Interval at which the host is asked about this service.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="spec.interval must be between 1s and 24h"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Timeout of one change on the host, from its first step to its last.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('1h')",message="spec.timeout must be between 5s and 1h"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Files that are delivered, and kept as declared.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=64
	Files []File `json:"files,omitempty"`
	// Systemd unit on a Linux host.
	// +optional
	Systemd *Systemd `json:"systemd,omitempty"`
	// WindowsService of a Windows host.
	// +optional
	WindowsService *WindowsService `json:"windowsService,omitempty"`
	// Script manages anything else by scripts of yours.
	// +optional
	Script *Script `json:"script,omitempty"`
	// State that the service is held in. Unmanaged: neither started nor stopped.
	// +optional
	// +kubebuilder:default=Running
	State ServiceState `json:"state,omitempty"`
	// Readiness is how health is known beyond the word of the service manager.
	// The operator itself looks, over the network.
	// +optional
	Readiness *Readiness `json:"readiness,omitempty"`
	// Ports that the service listens on.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Ports []ServicePort `json:"ports,omitempty"`
	// Expose gives the service a face inside the cluster: a Service without a
	// selector, and an EndpointSlice that follows health. Set it to {} for the defaults.
	// +optional
	Expose *Expose `json:"expose,omitempty"`
	// Outputs are values for others, shown in status.outputs.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Outputs []Output `json:"outputs,omitempty"`
	// DriftPolicy: Correct puts back what somebody changed on the host, Report only says so.
	// Changes of this spec are carried out in either case.
	// +optional
	// +kubebuilder:default=Correct
	DriftPolicy DriftPolicy `json:"driftPolicy,omitempty"`
	// Adoption: what to do when the service, or a file with other content, is on the host already and not ours.
	// +optional
	// +kubebuilder:default=Refuse
	Adoption Adoption `json:"adoption,omitempty"`
	// DeletionPolicy: Delete stops and removes what was made, Stop stops the service and
	// leaves the rest, Orphan leaves all as it is.
	// +optional
	// +kubebuilder:default=Delete
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// Suspend pauses everything but deletion.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// HostKey names the Host that the service is on.
func (s *ExternalService) HostKey() types.NamespacedName {
	key := types.NamespacedName{Namespace: s.Spec.HostRef.Namespace, Name: s.Spec.HostRef.Name}
	if key.Namespace == "" {
		key.Namespace = s.Namespace
	}
	return key
}

// HostReference names a Host, in the same namespace unless the Host allows others.
type HostReference struct {
	// Name of the Host.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the Host; it must allow this one (its spec.allowedNamespaces). Default: the same.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// ServiceState is the state that a service is held in.
// +kubebuilder:validation:Enum=Running;Stopped;Unmanaged
type ServiceState string

// The states.
const (
	StateRunning   ServiceState = "Running"
	StateStopped   ServiceState = "Stopped"
	StateUnmanaged ServiceState = "Unmanaged"
)

// DriftPolicy says what is done about a change that somebody made on the host.
// +kubebuilder:validation:Enum=Correct;Report
type DriftPolicy string

// The drift policies.
const (
	DriftCorrect DriftPolicy = "Correct"
	DriftReport  DriftPolicy = "Report"
)

// Adoption says what is done when a thing exists already and is not ours.
// +kubebuilder:validation:Enum=Refuse;Adopt
type Adoption string

// The ways to meet what exists.
const (
	AdoptionRefuse Adoption = "Refuse"
	AdoptionAdopt  Adoption = "Adopt"
)

// DeletionPolicy says what deleting the object does to the host.
// +kubebuilder:validation:Enum=Delete;Stop;Orphan
type DeletionPolicy string

// The deletion policies.
const (
	DeletionDelete DeletionPolicy = "Delete"
	DeletionStop   DeletionPolicy = "Stop"
	DeletionOrphan DeletionPolicy = "Orphan"
)

// File is a file on the host.
// +kubebuilder:validation:XValidation:rule="(has(self.content) ? 1 : 0) + (has(self.contentFrom) ? 1 : 0) + (has(self.source) ? 1 : 0) == 1",message="set exactly one of content, contentFrom and source"
type File struct {
	// Path on the host, absolute: /etc/orders.conf or C:\Orders\orders.json.
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=240
	// +kubebuilder:validation:Pattern=`^(/|[A-Za-z]:\\)[^\x00-\x1f]+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('(^|[/\\\\\\\\])\\\\.\\\\.?([/\\\\\\\\]|$)')",message="path must not have . or .. as a part"
	Path string `json:"path"`
	// Content of the file, as text.
	// +optional
	// +kubebuilder:validation:MaxLength=262144
	Content *string `json:"content,omitempty"`
	// ContentFrom takes the content from a ConfigMap or Secret.
	// +optional
	ContentFrom *ContentSource `json:"contentFrom,omitempty"`
	// Source downloads the content: for what is too large for a ConfigMap.
	// +optional
	Source *FileSource `json:"source,omitempty"`
	// Mode in octal, such as "0640". POSIX only. Unset: not managed (0644 for a new file).
	// +optional
	// +kubebuilder:validation:Pattern=`^0?[0-7]{3,4}$`
	Mode string `json:"mode,omitempty"`
	// Owner by name. POSIX only. Unset: not managed.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_.-]*\$?$`
	Owner string `json:"owner,omitempty"`
	// Group by name. POSIX only. Unset: not managed.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_.-]*\$?$`
	Group string `json:"group,omitempty"`
	// RestartOnChange restarts the service, once, when this file changed and the service should run.
	// +optional
	RestartOnChange bool `json:"restartOnChange,omitempty"`
}

// FileSource is a file that is downloaded when the host does not have it.
type FileSource struct {
	// URL, http or https, without user information. Its content must never change: a new version has a new digest.
	// +required
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s@/]+(/[^\s]*)?$`
	URL string `json:"url"`
	// SHA256 of the content, in hex. It is compared before the file is put in place.
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	SHA256 string `json:"sha256"`
	// Via: Host downloads it on the host itself (curl or wget on Linux, curl.exe on Windows);
	// Operator has the operator download it and stream it to the host, for hosts that reach no server.
	// +optional
	// +kubebuilder:default=Host
	// +kubebuilder:validation:Enum=Host;Operator
	Via string `json:"via,omitempty"`
	// MaxSize of the download.
	// +optional
	// +kubebuilder:default="1Gi"
	MaxSize *resource.Quantity `json:"maxSize,omitempty"`
}

// ContentSource takes content from a ConfigMap or Secret.
// +kubebuilder:validation:XValidation:rule="has(self.configMapKeyRef) != has(self.secretKeyRef)",message="set exactly one of configMapKeyRef and secretKeyRef"
type ContentSource struct {
	// ConfigMapKeyRef takes a key of a ConfigMap (data or binaryData).
	// +optional
	ConfigMapKeyRef *KeyReference `json:"configMapKeyRef,omitempty"`
	// SecretKeyRef takes a key of a Secret. The content never appears in status, events or logs.
	// +optional
	SecretKeyRef *KeyReference `json:"secretKeyRef,omitempty"`
}

// Systemd is a systemd unit.
type Systemd struct {
	// Unit name with its suffix: ledger.service.
	// +required
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9:_.@\\-]+\.(service|socket|timer|path|mount|target)$`
	Unit string `json:"unit"`
	// Definition is the text of the unit file in /etc/systemd/system. Unset: the unit comes from
	// elsewhere (a package), and only its state is managed. A change restarts the service.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Definition *string `json:"definition,omitempty"`
	// Enabled at boot. Unset: not managed.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// WindowsService is a service of the Windows service control manager.
// +kubebuilder:validation:XValidation:rule="!has(self.binaryPath) || self.binaryPath.startsWith('\"') || !self.binaryPath.matches('^[^\"]* [^\"]*\\\\.[eE][xX][eE]( |$)')",message="binaryPath: put the path of a program in double quotes when it holds blanks, or Windows may run another program"
type WindowsService struct {
	// Name of the service (not the display name).
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.$ -]+$`
	Name string `json:"name"`
	// BinaryPath is the command line of the service. Unset: the service must exist already,
	// and its command line is not managed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^[^\x00-\x1f]+$`
	BinaryPath *string `json:"binaryPath,omitempty"`
	// DisplayName shown to people. Unset: not managed.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	DisplayName *string `json:"displayName,omitempty"`
	// Description. Unset: not managed; empty: removed.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description *string `json:"description,omitempty"`
	// StartMode at boot. Unset: not managed (Automatic for a new service).
	// +optional
	// +kubebuilder:validation:Enum=Automatic;AutomaticDelayed;Manual;Disabled
	StartMode string `json:"startMode,omitempty"`
}

// Script manages a component by scripts: one that looks, one that puts right, one that removes.
type Script struct {
	// Observe looks and changes nothing. Exit code 0: the component is as it should be; 1: it is not,
	// and apply is run; anything else: unknown, and nothing is touched. The last line that it prints is shown.
	// It is run at every interval, so it should be quick.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Observe string `json:"observe"`
	// Apply brings the component into the state that observe looks for. Unset: observe only, and drift is reported.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Apply string `json:"apply,omitempty"`
	// Remove is run when the object is deleted, or the script is no longer declared. It is recorded
	// when the component is applied, with the plain environment.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Remove string `json:"remove,omitempty"`
	// Environment of the scripts, at most 32 KiB in all. Values reach them by standard input, never by a command line.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Environment []EnvironmentVariable `json:"environment,omitempty"`
	// Interpreter that reads a script on its standard input. Default: /bin/sh; cmd.exe on Windows.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/|[A-Za-z]:\\)[A-Za-z0-9._/\\ -]+$`
	Interpreter string `json:"interpreter,omitempty"`
	// ObserveTimeout bounds one run of observe.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('1m')",message="spec.script.observeTimeout must be between 100ms and 1m"
	ObserveTimeout *metav1.Duration `json:"observeTimeout,omitempty"`
	// Idempotent says that apply and remove may be run again when it is not known whether, or
	// how far, they ran (a reboot in the middle). Otherwise such a run stops, and a person decides.
	// +optional
	Idempotent bool `json:"idempotent,omitempty"`
}

// EnvironmentVariable of a script.
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.secretKeyRef)",message="set exactly one of value and secretKeyRef"
type EnvironmentVariable struct {
	// Name of the variable.
	// +required
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	Name string `json:"name"`
	// Value as text.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Value *string `json:"value,omitempty"`
	// SecretKeyRef takes the value from a Secret. It never appears in status, events or logs.
	// +optional
	SecretKeyRef *KeyReference `json:"secretKeyRef,omitempty"`
}

// Readiness says how health is known.
// +kubebuilder:validation:XValidation:rule="has(self.tcp) != has(self.http)",message="set exactly one of readiness.tcp and readiness.http"
type Readiness struct {
	// TCP: a connection can be made.
	// +optional
	TCP *TCPProbe `json:"tcp,omitempty"`
	// HTTP: a GET answers with an expected status.
	// +optional
	HTTP *HTTPProbe `json:"http,omitempty"`
	// Interval between two probes.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="readiness.interval must be between 1s and 1h"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Timeout of one probe.
	// +optional
	// +kubebuilder:default="3s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('1m')",message="readiness.timeout must be between 100ms and 1m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// FailureThreshold of failures in a row that make a healthy service unhealthy.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// SuccessThreshold of successes in a row that make it healthy again.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
}

// TCPProbe makes a connection.
type TCPProbe struct {
	// Port on the host.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// HTTPProbe sends a GET. Redirects are not followed; certificates are not verified, as with the kubelet's probes.
type HTTPProbe struct {
	// Port on the host.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// Path with query.
	// +optional
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^\s]*$`
	Path string `json:"path,omitempty"`
	// Scheme: HTTP or HTTPS.
	// +optional
	// +kubebuilder:default=HTTP
	// +kubebuilder:validation:Enum=HTTP;HTTPS
	Scheme string `json:"scheme,omitempty"`
	// ExpectStatus that means health. Unset: 200 to 399.
	// +optional
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=599
	ExpectStatus int32 `json:"expectStatus,omitempty"`
}

// ServicePort is a port of the service.
type ServicePort struct {
	// Name of the port.
	// +required
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	Name string `json:"name"`
	// Port inside the cluster.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// TargetPort on the host. Default: port.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TargetPort int32 `json:"targetPort,omitempty"`
	// Protocol: TCP or UDP.
	// +optional
	// +kubebuilder:default=TCP
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol string `json:"protocol,omitempty"`
}

// Expose is the face of the service inside the cluster.
type Expose struct {
	// ServiceName of the Service and EndpointSlice. Default: the object's name.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	ServiceName string `json:"serviceName,omitempty"`
	// Address of the endpoint, an IP. Default: the Host's address (resolved by the operator when it is a name).
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="expose.address must be an IP address"
	Address string `json:"address,omitempty"`
	// OnUnreachable: KeepLast leaves the endpoint as it was when the Host stopped answering, NotReady takes it out.
	// +optional
	// +kubebuilder:default=KeepLast
	// +kubebuilder:validation:Enum=KeepLast;NotReady
	OnUnreachable string `json:"onUnreachable,omitempty"`
}

// Output is a value for others.
type Output struct {
	// Name under status.outputs.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z][a-zA-Z0-9_]*$`
	Name string `json:"name"`
	// Value, with ${...} CEL expressions over host (name, address, facts), service (name, namespace,
	// dnsName, clusterIP, ports by name), observed (state, pid) and spec.
	// +required
	// +kubebuilder:validation:MaxLength=2048
	Value string `json:"value"`
}

// ExternalService is the desired state of one thing outside the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=extsvc,categories=isthmus
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.spec.hostRef.name`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.observed.state`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the desired state.
	// +required
	Spec ExternalServiceSpec `json:"spec"`
	// Status is what is known.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status ExternalServiceStatus `json:"status,omitempty"`
}

// ExternalServiceList is a list of ExternalServices.
// +kubebuilder:object:root=true
type ExternalServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExternalService `json:"items"`
}
