package wsman

// XML namespaces.
const (
	nsSOAP        = "http://www.w3.org/2003/05/soap-envelope"
	nsAddressing  = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
	nsTransfer    = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
	nsEnumeration = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
	nsManagement  = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
	nsMicrosoft   = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
	nsShell       = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	nsFault       = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
	nsIdentity    = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
	nsInstance    = "http://www.w3.org/2001/XMLSchema-instance"
	nsCIM         = "http://schemas.dmtf.org/wbem/wscim/1/common"
)

// Actions.
const (
	actionGet       = nsTransfer + "/Get"
	actionCreate    = nsTransfer + "/Create"
	actionDelete    = nsTransfer + "/Delete"
	actionEnumerate = nsEnumeration + "/Enumerate"
	actionPull      = nsEnumeration + "/Pull"
	actionRelease   = nsEnumeration + "/Release"
	actionCommand   = nsShell + "/Command"
	actionSend      = nsShell + "/Send"
	actionReceive   = nsShell + "/Receive"
	actionSignal    = nsShell + "/Signal"

	actionManagementFault  = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
	actionAddressingFault  = nsAddressing + "/fault"
	actionEnumerationFault = nsEnumeration + "/fault"
)

// Resources and other URIs.
const (
	resourceShell = nsShell + "/cmd"
	// resourceWMI is what precedes NAMESPACE/CLASS, such as root/cimv2/Win32_Service.
	resourceWMI  = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
	dialectWQL   = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
	anonymous    = nsAddressing + "/role/anonymous"
	faultDetail  = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/"
	stateDone    = nsShell + "/CommandState/Done"
	stateRunning = nsShell + "/CommandState/Running"

	signalTerminate = nsShell + "/signal/terminate"
)

// Codes of faults, from wsmerror.h and winerror.h.
const (
	CodeAccessDenied        = 5
	CodeNotSupported        = 50
	CodeInvalidParameter    = 87
	CodeBusy                = 170
	CodeResourceNotFound    = 2150858752
	CodeActionNotSupported  = 2150858753
	CodeSchemaValidation    = 2150858817
	CodeInvalidSelectors    = 2150858843
	CodeOperationTimeout    = 2150858793
	CodeCannotProcessFilter = 2150858778
	CodeFilterDialect       = 2150858777
	CodeInvalidContext      = 2150858779
	CodeMinEnvelopeSize     = 2150858878
	CodeEnvelopeTooLarge    = 2150858824
	CodeNotASingleton       = 2150859002
	CodeWQLNeedsStar        = 2150859003
	CodeMaxShells           = 2150859173
	CodeMaxOperations       = 2150859174
	CodeInternalError       = 2150858883
)
