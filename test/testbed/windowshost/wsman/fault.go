package wsman

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Fault is a failure that the client is told in a SOAP fault.
type Fault struct {
	// Code is the number in the WSManFault element.
	Code uint32
	// Role is s:Sender or s:Receiver; s:Sender when empty.
	Role string
	// Subcode is a qualified name such as w:InvalidSelectors.
	Subcode string
	// Detail is the last part of a faultDetail URI, none when empty.
	Detail string
	// Message is what Windows would say in English.
	Message string
	// Provider names the plug-in of the service that fails, none when empty.
	Provider string
}

func (f *Fault) Error() string { return fmt.Sprintf("%s (%d): %s", f.Subcode, f.Code, f.Message) }

const receiver = "s:Receiver"

// NotFound is the fault for an instance that does not exist.
func NotFound() *Fault {
	return &Fault{Code: CodeResourceNotFound, Subcode: "a:DestinationUnreachable", Detail: "InvalidResourceURI", Provider: "WMI Provider",
		Message: "The WS-Management service cannot process the request. The service cannot find the resource identified by the resource URI and selectors. "}
}

// InvalidSelectors is the fault for selectors that do not name an instance, and for a shell that is not there.
func InvalidSelectors() *Fault {
	return &Fault{Code: CodeInvalidSelectors, Subcode: "w:InvalidSelectors", Detail: "UnexpectedSelectors",
		Message: "The WS-Management service cannot process the request because the request contained invalid selectors for the resource. "}
}

// NotASingleton is the fault for a missing selector.
func NotASingleton() *Fault {
	return &Fault{Code: CodeNotASingleton, Subcode: "w:InvalidSelectors", Detail: "InsufficientSelectors", Provider: "WMI Provider",
		Message: "The WinRM client cannot process the request. The resource URI is not valid: it does not contain keys, but the class selected is not a singleton. To access an instance which is not a singleton, keys must be provided. Use the following command to get more information in how to construct a resource URI: \"winrm help uris\". "}
}

// UnknownMethod is the fault for a method that a class does not have.
func UnknownMethod() *Fault {
	return &Fault{Code: CodeActionNotSupported, Subcode: "a:ActionNotSupported",
		Message: "The WS-Management service cannot process the request. The WS-Addressing action URI is invalid. Check the documentation for information on how to construct an action URI. "}
}

// InvalidParameter is the fault for method parameters that do not fit.
func InvalidParameter(why string) *Fault {
	return &Fault{Code: CodeInvalidParameter, Subcode: "w:SchemaValidationError", Provider: "WMI Provider", Message: "The parameter is incorrect. " + why}
}

// InvalidQuery is the fault for a query that is not WQL.
func InvalidQuery(why string) *Fault {
	return &Fault{Code: CodeCannotProcessFilter, Subcode: "n:CannotProcessFilter", Provider: "WMI Provider",
		Message: "The WS-Management service cannot process the request. The filter is not valid: " + why + ". "}
}

func internalError(err error) *Fault {
	return &Fault{Code: CodeInternalError, Role: receiver, Subcode: "w:InternalError", Message: err.Error()}
}

func operationTimeout() *Fault {
	return &Fault{Code: CodeOperationTimeout, Role: receiver, Subcode: "w:TimedOut", Detail: "OperationTimeout",
		Message: "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  "}
}

func invalidParameter() *Fault {
	return &Fault{Code: CodeInvalidParameter, Subcode: "w:SchemaValidationError", Message: "The parameter is incorrect. "}
}

// asFault is the fault that an error is, or an internal error.
func asFault(err error) *Fault {
	if fault := (*Fault)(nil); errors.As(err, &fault) {
		return fault
	}
	return internalError(err)
}

// action is the WS-Addressing action of a fault, which goes by who defines its subcode.
func (f *Fault) action() string {
	switch {
	case strings.HasPrefix(f.Subcode, "a:"):
		return actionAddressingFault
	case strings.HasPrefix(f.Subcode, "n:"):
		return actionEnumerationFault
	default:
		return actionManagementFault
	}
}

// envelope writes the fault.
func (f *Fault) envelope(relatesTo, machine string) []byte {
	role := f.Role
	if role == "" {
		role = "s:Sender"
	}
	r := newReply(f.action(), relatesTo)
	r.WriteString("<s:Fault><s:Code><s:Value>" + role + "</s:Value>")
	if f.Subcode != "" {
		r.WriteString("<s:Subcode><s:Value>" + f.Subcode + "</s:Value></s:Subcode>")
	}
	r.WriteString(`</s:Code><s:Reason><s:Text xml:lang="en-US">`)
	r.text(f.Message)
	r.WriteString(`</s:Text></s:Reason><s:Detail>`)
	if f.Detail != "" {
		r.element("w:FaultDetail", faultDetail+f.Detail)
	}
	f.open(r, machine)
	if f.Provider != "" {
		r.WriteString(`<f:ProviderFault provider="` + f.Provider + `" path="%systemroot%\system32\WsmWmiPl.dll">`)
		f.open(r, machine)
		r.text(f.Message)
		r.WriteString(`</f:Message></f:WSManFault></f:ProviderFault>`)
	} else {
		r.text(f.Message)
	}
	r.WriteString(`</f:Message></f:WSManFault></s:Detail></s:Fault>`)
	return r.end()
}

func (f *Fault) open(r *reply, machine string) {
	r.WriteString(`<f:WSManFault xmlns:f="` + nsFault + `" Code="` + strconv.FormatUint(uint64(f.Code), 10) + `" Machine="` + machine + `"><f:Message>`)
}
