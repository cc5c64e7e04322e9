package windows

import (
	"fmt"

	"github.com/isthmus-dev/isthmus/internal/transport/winrm"
)

// Return values of Win32_Service's methods that are decided upon.
const (
	returnOK                  = 0
	returnCannotAcceptControl = 5
	returnNotActive           = 6
	returnAlreadyRunning      = 10
	returnMarkedForDeletion   = 16
	returnExists              = 23
)

// returnValues explains what Win32_Service's methods return (Win32 provider,
// class Win32_Service).
var returnValues = map[uint32]string{
	1:  "the request is not supported",
	2:  "access denied: the account needs the right to control the service",
	3:  "other services that run depend on it",
	4:  "the service does not know this control",
	5:  "the service cannot accept controls in its state",
	6:  "the service does not run",
	7:  "the service did not answer in time",
	8:  "unknown failure while the service was started; the event log of the host says more",
	9:  "the path of the program was not found",
	10: "the service runs already",
	11: "the service database is locked",
	12: "a service that it depends on was deleted",
	13: "a service that it depends on could not be started",
	14: "the service is disabled",
	15: "the service's account could not log on: wrong password or missing right",
	16: "the service is marked for deletion; a program on the host still holds it open",
	17: "the service has no thread",
	18: "the services depend on each other in a circle",
	19: "another service has this display name",
	20: "the name holds invalid characters",
	21: "invalid parameter",
	22: "the account is invalid or lacks the right to run the service",
	23: "a service of this name exists",
	24: "the service is paused",
}

// ReturnValueError says that a method of Win32_Service did not do what it was asked for.
type ReturnValueError struct {
	Method, Service string
	Value           uint32
}

func (e *ReturnValueError) Error() string {
	text, known := returnValues[e.Value]
	if !known {
		text = "unknown reason"
	}
	return fmt.Sprintf("%s of service %q returned %d: %s", e.Method, e.Service, e.Value, text)
}

// returned reads the ReturnValue of a method; a value other than zero is a ReturnValueError.
func returned(output winrm.Instance, method, service string) error {
	values := output["ReturnValue"]
	if len(values) != 1 {
		return fmt.Errorf("%s of service %q returned nothing", method, service)
	}
	if value := number(values[0]); value != returnOK || values[0] != "0" {
		return &ReturnValueError{Method: method, Service: service, Value: value}
	}
	return nil
}
