package machine

// Step is one idempotent effect on a host. The types below are all there are.
type Step interface{ step() }

// Subject names a thing on a host that one owner may manage, such as
// "systemd/ledger.service", "windowsservice/Orders" or "file//etc/ledger.conf".
// Names are case-sensitive as the drivers spell them; the Windows drivers lower them.
type Subject string

// Owner is who manages a subject: an object of a cluster.
type Owner struct {
	Cluster string // UID of the cluster's kube-system namespace
	UID     string // UID of the object
	Object  string // "namespace/name", for people who read the host
}

// Secret is content that must not be printed: formatting it in any way gives "[redacted]".
type Secret []byte

// String implements fmt.Stringer.
func (Secret) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "[redacted]" }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Claim writes down that owner manages subject. It fails if somebody else does.
type Claim struct {
	Subject Subject
	Owner   Owner
	Adopted bool // the thing was there before
}

// Release removes what is written down about subject, if owner manages it.
type Release struct {
	Subject Subject
	Owner   Owner
}

// PutFile delivers a file atomically: temporary file in the same directory,
// digest verified, attributes set, renamed. Missing parent directories are made
// (0755). On POSIX, a zero Mode keeps the mode of the file that is there (0644
// for a new one); empty Owner and Group likewise. It replaces a symbolic link
// or refuses a directory; it never follows a link.
type PutFile struct {
	Path    string
	Content Secret
	SHA256  string // lower-case hex of Content
	Mode    uint32
	Owner   string
	Group   string
}

// PlaceFile puts content in place that was staged (Blob), as PutFile does with
// content of its own. The staged copy is gone afterwards.
type PlaceFile struct {
	Path   string
	SHA256 string
	Size   int64 // as Blob.Size: an upper bound
	Mode   uint32
	Owner  string
	Group  string
}

// FetchFile has the host itself download a file, and puts it in place as
// PutFile does. The download is limited to MaxSize bytes and must have the digest, or the
// file that is there stays as it is. Certificates are verified by the host.
type FetchFile struct {
	Path    string
	URL     string // http or https
	SHA256  string // lower-case hex
	MaxSize int64
	Mode    uint32
	Owner   string
	Group   string
}

// RunScript runs a user's script. It is the only step that may not be idempotent.
type RunScript struct {
	Interpreter string // as in Script
	Text        Secret
	Environment []Variable
	// Digest of interpreter, text and environment, for DigestSteps: contents print as a constant.
	Digest string
	// Idempotent says that the author allows it to be run again when its outcome is not known.
	Idempotent bool
}

// RemoveFile removes a regular file or a link, if it is there.
type RemoveFile struct{ Path string }

// ReloadUnits makes systemd read its unit files again.
type ReloadUnits struct{}

// EnableUnit has a unit started at boot.
type EnableUnit struct{ Unit string }

// DisableUnit has a unit not started at boot.
type DisableUnit struct{ Unit string }

// StartService starts a service that does not run, and marks the instance as
// started with Hash. Pending states are waited for, within the job's time.
type StartService struct {
	Service Service
	Hash    string
}

// RestartService restarts a service, once: the mark is written before (pending,
// with the instance that runs now) and after (started).
type RestartService struct {
	Service Service
	Hash    string
}

// StopService stops a service and waits until its process is gone.
type StopService struct{ Service Service }

// RecordStart marks the instance that runs now as started with Hash, and touches nothing.
type RecordStart struct {
	Service Service
	Hash    string
}

// CreateWindowsService creates a service in the service control manager.
type CreateWindowsService struct {
	Name        string
	DisplayName string // empty: the name
	Description string
	BinaryPath  string
	StartMode   string // Automatic, AutomaticDelayed, Manual, Disabled
}

// ChangeWindowsService changes the fields that are not nil.
type ChangeWindowsService struct {
	Name        string
	DisplayName *string
	Description *string
	BinaryPath  *string
	StartMode   *string
}

// DeleteWindowsService deletes a stopped service; one that is not there is deleted already.
type DeleteWindowsService struct{ Name string }

// Service names a service of a host's service manager.
type Service struct {
	Manager ServiceManager
	Name    string
}

// ServiceManager is systemd or the Windows service control manager.
type ServiceManager string

// The service managers.
const (
	Systemd    ServiceManager = "systemd"
	WindowsSCM ServiceManager = "windowsservice"
)

// Subject is the name under which the service is claimed and its starts are marked.
func (s Service) Subject() Subject { return Subject(string(s.Manager) + "/" + s.Name) }

func (Claim) step()                {}
func (Release) step()              {}
func (PutFile) step()              {}
func (PlaceFile) step()            {}
func (FetchFile) step()            {}
func (RunScript) step()            {}
func (RemoveFile) step()           {}
func (ReloadUnits) step()          {}
func (EnableUnit) step()           {}
func (DisableUnit) step()          {}
func (StartService) step()         {}
func (RestartService) step()       {}
func (StopService) step()          {}
func (RecordStart) step()          {}
func (CreateWindowsService) step() {}
func (ChangeWindowsService) step() {}
func (DeleteWindowsService) step() {}
