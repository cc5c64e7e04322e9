package winrm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The codes of WSManFault that the client acts upon. Texts are localised and
// never looked at.
const (
	codeBusy             = 170        // ERROR_BUSY: the shell is at work for us already
	codeOperationTimeout = 2150858793 // nothing to tell within OperationTimeout; ask again
	codeShellNotFound    = 2150858843 // the selectors name no shell (any more)
	codeInvalidContext   = 2150858779 // there is no such enumeration (any more)
	codeShellQuota       = 2150859173 // the user has too many shells
	codeOperationQuota   = 2150859174 // 0x803381A6: the shell or user has used up its operations
)

// maxFaultText bounds what is kept of a fault's text.
const maxFaultText = 1024

// Fault is a SOAP fault: the host understood who we are and refuses or fails
// the request. Code is the Code of WSManFault (a Win32 or WS-Management error),
// 0 where there is none; Subcode is such as "w:InvalidSelectors".
type Fault struct {
	Code    uint32
	Subcode string
	Text    string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("the host answered with fault %d (%s): %s", f.Code, f.Subcode, f.Text)
}

// HTTPError is an answer that is neither a reply nor a fault.
type HTTPError struct{ Status int }

func (e *HTTPError) Error() string {
	if e.Status >= 300 && e.Status < 400 {
		return fmt.Sprintf("the listener redirects (HTTP %d), which is refused", e.Status)
	}
	return fmt.Sprintf("the listener answered HTTP %d", e.Status)
}

// EnvelopeTooLargeError says that the host takes no request of this size (HTTP 413).
type EnvelopeTooLargeError struct{ Size int }

func (e *EnvelopeTooLargeError) Error() string {
	return fmt.Sprintf("the host takes no request of %d bytes: raise MaxEnvelopeSizekb in winrm/config", e.Size)
}

func parseFault(body *node) *Fault {
	fault := body.child("Fault")
	if fault == nil {
		return nil
	}
	detail := fault.at("Detail", "WSManFault")
	code, err := strconv.ParseUint(detail.attr("Code"), 10, 32)
	if err != nil {
		code = 0
	}
	text := strings.TrimSpace(fault.at("Reason", "Text").value())
	if text == "" && detail != nil {
		text = strings.TrimSpace(detail.deep())
	}
	if len(text) > maxFaultText {
		text = strings.ToValidUTF8(text[:maxFaultText], "")
	}
	return &Fault{Code: uint32(code), Subcode: fault.at("Code", "Subcode", "Value").value(), Text: text}
}

// faultCode is the code of a Fault in err, or 0.
func faultCode(err error) uint32 {
	var fault *Fault
	if errors.As(err, &fault) {
		return fault.Code
	}
	return 0
}
