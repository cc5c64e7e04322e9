package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Condition types of a Host.
const (
	// ReachableCondition: the host answers. False once it has not for spec.probe.gracePeriod; Unknown before.
	ReachableCondition = "Reachable"
	// CredentialsAcceptedCondition: the host let us in. False stops all attempts until the Secret changes.
	CredentialsAcceptedCondition = "CredentialsAccepted"
	// IdentityTrustedCondition: the host proved, by host key or certificate, to be the one that is meant.
	IdentityTrustedCondition = "IdentityTrusted"
)

// Reasons of a Host's conditions.
const (
	// ReasonConnected: the host answers.
	ReasonConnected = "Connected"
	// ReasonConnecting: the first answer is awaited.
	ReasonConnecting = "Connecting"
	// ReasonUnreachable: no connection can be made; the message says what happened.
	ReasonUnreachable = "Unreachable"
	// ReasonCredentialsRefused: the host refused the credentials; one attempt was made.
	ReasonCredentialsRefused = "CredentialsRefused"
	// ReasonCredentialsInvalid: the Secret is missing or does not hold what is needed.
	ReasonCredentialsInvalid = "CredentialsInvalid"
	// ReasonIdentityMismatch: the host's key or certificate is not the pinned one.
	ReasonIdentityMismatch = "IdentityMismatch"
	// ReasonIdentityUnpinned: no host key is pinned, and trust on first use was not asked for.
	ReasonIdentityUnpinned = "IdentityUnpinned"
	// ReasonPinned: the key seen at the first use was pinned into status.hostKey.
	ReasonPinned = "PinnedOnFirstUse"
	// ReasonVerified: the identity matches what the spec declares.
	ReasonVerified = "Verified"
	// ReasonAddressRefused: the address is in a range that the operator does not allow.
	ReasonAddressRefused = "AddressRefused"
	// ReasonInvalidSpec: a field of the spec cannot be read; the message names it.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonJumpNotFound: spec.ssh.jump names a Host that does not exist.
	ReasonJumpNotFound = "JumpNotFound"
	// ReasonJumpInvalid: the Host that spec.ssh.jump names cannot be jumped through; the message says why.
	ReasonJumpInvalid = "JumpInvalid"
	// ReasonJumpRefused: the Host that spec.ssh.jump names has refused us, or is not trusted.
	ReasonJumpRefused = "JumpRefused"
	// ReasonInUse: the Host is deleted, and objects still use it.
	ReasonInUse = "InUse"
	// ReasonFenced: the host has obeyed a newer leader of this operator.
	ReasonFenced = "Fenced"
)

// OperatingSystem of a host.
// +kubebuilder:validation:Enum=Linux;Windows
type OperatingSystem string

// The operating systems.
const (
	Linux   OperatingSystem = "Linux"
	Windows OperatingSystem = "Windows"
)

// HostSpec says how a machine is reached and by whom it may be used.
// +kubebuilder:validation:XValidation:rule="has(self.ssh) != has(self.winrm)",message="set exactly one of spec.ssh and spec.winrm"
// +kubebuilder:validation:XValidation:rule="!has(self.winrm) || self.os == 'Windows'",message="spec.winrm needs spec.os: Windows"
// +kubebuilder:validation:XValidation:rule="!has(self.ssh) || self.os == 'Linux'",message="spec.ssh needs spec.os: Linux; reach Windows by spec.winrm"
// +kubebuilder:validation:XValidation:rule="!has(self.stateDirectory) || self.stateDirectory.startsWith('/') == (self.os == 'Linux')",message="spec.stateDirectory must be a path of spec.os: /var/lib/isthmus on Linux, C:\\ProgramData\\isthmus on Windows"
type HostSpec struct {
	// Address is a DNS name or IP address. Loopback, link-local and metadata
	// addresses are refused unless the operator was started to allow them.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._:-]+$`
	Address string `json:"address"`
	// OS of the host.
	// +required
	OS OperatingSystem `json:"os"`
	// SSH reaches the host by SSH.
	// +optional
	SSH *SSHTransport `json:"ssh,omitempty"`
	// WinRM reaches the host by WS-Management.
	// +optional
	WinRM *WinRMTransport `json:"winrm,omitempty"`
	// CredentialsRef names a Secret in the same namespace. Its keys: username, password,
	// ssh-privatekey with an optional passphrase and ssh-certificate, become-password (for
	// sudo), tls.crt and tls.key (WinRM client certificate). A changed Secret is used at once.
	// +required
	CredentialsRef LocalReference `json:"credentialsRef"`
	// Probe says how often the host is asked how it is.
	// +optional
	Probe HostProbe `json:"probe,omitzero"`
	// StateDirectory is where Isthmus keeps its few files on the host.
	// Default: /var/lib/isthmus, or C:\ProgramData\isthmus on Windows.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9._/-]+|[A-Za-z]:\\[A-Za-z0-9._\\ -]+)$`
	StateDirectory string `json:"stateDirectory,omitempty"`
	// AllowedNamespaces says from which namespaces ExternalServices may use this Host. Default: its own.
	// +optional
	AllowedNamespaces AllowedNamespaces `json:"allowedNamespaces,omitzero"`
	// Maintenance: the host is observed and never changed.
	// +optional
	Maintenance Maintenance `json:"maintenance,omitzero"`
	// Suspend: the host is not contacted at all.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// SSHTransport reaches a host by SSH.
// +kubebuilder:validation:XValidation:rule="has(self.hostKeys) || has(self.hostKeyAuthorities) || (has(self.trustOnFirstUse) && self.trustOnFirstUse)",message="give spec.ssh.hostKeys (ssh-keyscan prints them) or spec.ssh.hostKeyAuthorities, or ask for trustOnFirstUse: true"
type SSHTransport struct {
	// Port of the SSH server.
	// +optional
	// +kubebuilder:default=22
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// User to log in as. Default: the username in the Secret.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[^\s:]+$`
	User string `json:"user,omitempty"`
	// HostKeys are the host's public keys, as ssh-keyscan prints them without the name: "ssh-ed25519 AAAA...".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=2048
	// +kubebuilder:validation:items:Pattern=`^(ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?$`
	HostKeys []string `json:"hostKeys,omitempty"`
	// HostKeyAuthorities are public keys of authorities whose host certificates are
	// trusted, if a certificate names spec.address (or the port's form, [address]:port) among its principals:
	// "ssh-ed25519 AAAA...".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=2048
	// +kubebuilder:validation:items:Pattern=`^(ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?$`
	HostKeyAuthorities []string `json:"hostKeyAuthorities,omitempty"`
	// Jump names another Host of the same namespace, through whose SSH server this one is
	// reached. That Host may have a jump of its own; at most four in all.
	// +optional
	Jump *LocalReference `json:"jump,omitempty"`
	// TrustOnFirstUse pins the key that the host shows first into status.hostKey,
	// before any credential is sent. A later change is refused until hostKeys is
	// set or status.hostKey is removed.
	// +optional
	TrustOnFirstUse bool `json:"trustOnFirstUse,omitempty"`
	// Become says how to get the rights of another user, root unless named. Unset: as logged in.
	// +optional
	Become *Become `json:"become,omitempty"`
}

// Become gets the rights of another user.
type Become struct {
	// Method: sudo. It is given the key become-password of the Secret if it asks for one,
	// and without that key it must not ask (sudo -n).
	// +optional
	// +kubebuilder:default=sudo
	Method BecomeMethod `json:"method,omitempty"`
	// User to become.
	// +optional
	// +kubebuilder:default=root
	// +kubebuilder:validation:Pattern=`^[a-z_][a-z0-9_-]{0,31}$`
	User string `json:"user,omitempty"`
}

// BecomeMethod is a program that gives the rights of another user.
// +kubebuilder:validation:Enum=sudo
type BecomeMethod string

// BecomeSudo is sudo.
const BecomeSudo BecomeMethod = "sudo"

// WinRMTransport reaches a host by WS-Management.
// +kubebuilder:validation:XValidation:rule="!has(self.scheme) || self.scheme != 'HTTP' || (has(self.authentication) && self.authentication in ['NTLM', 'Kerberos'])",message="spec.winrm.scheme HTTP needs authentication NTLM or Kerberos, which encrypt each message; use HTTPS for Basic and Certificate"
// +kubebuilder:validation:XValidation:rule="has(self.kerberos) == (has(self.authentication) && self.authentication == 'Kerberos')",message="spec.winrm.kerberos goes with authentication: Kerberos, and only with it"
// +kubebuilder:validation:XValidation:rule="!has(self.scheme) || self.scheme != 'HTTP' || !has(self.caRef)",message="spec.winrm.caRef is for scheme HTTPS; remove it"
type WinRMTransport struct {
	// Scheme: HTTPS, or HTTP with messages encrypted by NTLM or Kerberos. Nothing is ever sent in the clear.
	// +optional
	// +kubebuilder:default=HTTPS
	Scheme WinRMScheme `json:"scheme,omitempty"`
	// Port of the listener. Default: 5986 for HTTPS, 5985 for HTTP.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// Authentication: NTLM for local and domain accounts, Kerberos for domain accounts,
	// Certificate for local accounts that a client certificate is mapped to (tls.crt and tls.key
	// in the Secret), Basic for local accounts where the listener allows it.
	// +optional
	// +kubebuilder:default=NTLM
	Authentication WinRMAuthentication `json:"authentication,omitempty"`
	// CARef names the authority that signed the listener's certificate. Default: the operator's system roots.
	// +optional
	CARef *CAReference `json:"caRef,omitempty"`
	// ServerName expected in the certificate. Default: spec.address.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServerName string `json:"serverName,omitempty"`
	// Kerberos says where tickets come from.
	// +optional
	Kerberos *Kerberos `json:"kerberos,omitempty"`
}

// PortOrDefault is the port of the listener.
func (w *WinRMTransport) PortOrDefault() int32 {
	switch {
	case w.Port != 0:
		return w.Port
	case w.Scheme == HTTP:
		return 5985
	default:
		return 5986
	}
}

// WinRMScheme is how requests travel.
// +kubebuilder:validation:Enum=HTTPS;HTTP
type WinRMScheme string

// The schemes.
const (
	HTTPS WinRMScheme = "HTTPS"
	HTTP  WinRMScheme = "HTTP"
)

// WinRMAuthentication is a way to authenticate to a WinRM listener.
// +kubebuilder:validation:Enum=NTLM;Kerberos;Certificate;Basic
type WinRMAuthentication string

// The ways to authenticate to WinRM.
const (
	NTLM              WinRMAuthentication = "NTLM"
	KerberosTicket    WinRMAuthentication = "Kerberos"
	ClientCertificate WinRMAuthentication = "Certificate"
	Basic             WinRMAuthentication = "Basic"
)

// Kerberos says where tickets come from.
type Kerberos struct {
	// Realm of the account, in upper case: CORP.EXAMPLE.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Z0-9.-]+$`
	Realm string `json:"realm"`
	// KDCs are the key distribution centres (domain controllers) as host or host:port; port 88 unless given.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=259
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9._:\[\]-]+$`
	KDCs []string `json:"kdcs"`
	// ServicePrincipal of the listener. Default: HTTP/<spec.winrm.serverName, or spec.address>.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z]+/[A-Za-z0-9._-]+$`
	ServicePrincipal string `json:"servicePrincipal,omitempty"`
}

// CAReference names a key, ca.crt unless given, of a ConfigMap or Secret in the same namespace.
type CAReference struct {
	// Kind of the object.
	// +optional
	// +kubebuilder:default=ConfigMap
	// +kubebuilder:validation:Enum=ConfigMap;Secret
	Kind string `json:"kind,omitempty"`
	// Name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key that holds PEM certificates.
	// +optional
	// +kubebuilder:default=ca.crt
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// HostProbe says how often a host is asked how it is.
type HostProbe struct {
	// Interval between two questions, when no ExternalService asks more often.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="spec.probe.interval must be between 1s and 1h"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Timeout of one question, and of one attempt to connect.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('2m')",message="spec.probe.timeout must be between 1s and 2m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// GracePeriod without an answer after which Reachable turns from Unknown to False.
	// +optional
	// +kubebuilder:default="50s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="spec.probe.gracePeriod must be between 0s and 1h"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`
}

// AllowedNamespaces says from which namespaces a Host may be used.
// +kubebuilder:validation:XValidation:rule="(has(self.from) && self.from == 'Selector') == has(self.selector)",message="spec.allowedNamespaces.selector goes with from: Selector, and only with it"
type AllowedNamespaces struct {
	// From: Same (the Host's own namespace), All, or Selector.
	// +optional
	// +kubebuilder:default=Same
	// +kubebuilder:validation:Enum=Same;All;Selector
	From string `json:"from,omitempty"`
	// Selector of namespaces by their labels.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Maintenance holds all changes back.
type Maintenance struct {
	// Enabled: observe, never change.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
	// Reason, shown in conditions.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason,omitempty"`
}

// HostStatus is what is known of a host.
type HostStatus struct {
	Status `json:",inline"`
	// Facts about the machine, read when it is connected and after a reboot.
	// +optional
	Facts *HostFacts `json:"facts,omitempty"`
	// HostKey that was pinned at the first use: "ssh-ed25519 AAAA...". Remove it to pin anew.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	HostKey string `json:"hostKey,omitempty"`
	// HostKeyFingerprint is what the host showed last, as ssh-keygen -l prints it.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	HostKeyFingerprint string `json:"hostKeyFingerprint,omitempty"`
	// RefusedLogin is a digest of the login that the host refused, while it does: an operator
	// that starts anew does not try it again. The Secret takes part by its resource version.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	RefusedLogin string `json:"refusedLogin,omitempty"`
	// LastSeenTime is when the host answered last, while it does not answer. It is unset
	// while the host answers, so that a host that is well costs no writes.
	// +optional
	LastSeenTime *metav1.Time `json:"lastSeenTime,omitempty"`
	// Users is how many ExternalServices are on this host.
	// +optional
	Users int32 `json:"users,omitempty"`
	// Via is how the host is reached: ssh or winrm, with user and port, and the Hosts that are jumped through.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Via string `json:"via,omitempty"`
}

// HostFacts describes a machine.
type HostFacts struct {
	// OSName such as "Debian GNU/Linux 12 (bookworm)".
	// +optional
	// +kubebuilder:validation:MaxLength=256
	OSName string `json:"osName,omitempty"`
	// OSVersion such as "12" or "10.0.20348".
	// +optional
	// +kubebuilder:validation:MaxLength=256
	OSVersion string `json:"osVersion,omitempty"`
	// Kernel release.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Kernel string `json:"kernel,omitempty"`
	// Architecture as Kubernetes names it: amd64, arm64.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Architecture string `json:"architecture,omitempty"`
	// Hostname that the machine gives itself.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Hostname string `json:"hostname,omitempty"`
	// InitSystem: systemd or windows-scm.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	InitSystem string `json:"initSystem,omitempty"`
	// CPUs, logical.
	// +optional
	CPUs int32 `json:"cpus,omitempty"`
	// Memory in bytes, as a quantity.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Memory string `json:"memory,omitempty"`
	// BootID changes at each boot.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	BootID string `json:"bootID,omitempty"`
}

// Host is a machine outside the cluster that can be reached.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:categories=isthmus
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="OS",type=string,JSONPath=`.spec.os`
// +kubebuilder:printcolumn:name="Via",type=string,JSONPath=`.status.via`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=`.status.users`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Last-Seen",type=date,JSONPath=`.status.lastSeenTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Host struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says how the machine is reached.
	// +required
	Spec HostSpec `json:"spec"`
	// Status is what is known of it.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status HostStatus `json:"status,omitempty"`
}

// HostList is a list of Hosts.
// +kubebuilder:object:root=true
type HostList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Host `json:"items"`
}
