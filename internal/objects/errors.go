package objects

import (
	"errors"
	"fmt"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// ForbiddenError is a permission that the ServiceAccount lacks.
type ForbiddenError struct {
	Identity Identity
	// Verb and Resource that were refused: patch, deployments.apps.
	Verb, Resource string
	// Object that was meant.
	Object Reference
	// Operator is set if it is the operator that may not impersonate.
	Operator bool
	cause    error
}

// Error names who lacks what.
func (e *ForbiddenError) Error() string {
	if e.Operator {
		return fmt.Sprintf("the operator may not impersonate %s: its own role lacks the verb impersonate on serviceaccounts", e.Identity)
	}
	// The API server does not tell an account without rights from one that does not exist.
	return fmt.Sprintf("%s may not %s %s (%s): bind a Role that allows it, and see that the account exists", e.Identity, e.Verb, e.Resource, e.Object)
}

// Unwrap gives the API server's error.
func (e *ForbiddenError) Unwrap() error { return e.cause }

// NotOursError is an object that exists and belongs to somebody else.
type NotOursError struct {
	Object Reference
	// Owner is what the object says about who manages it, or nothing.
	Owner string
}

// Error says what to do.
func (e *NotOursError) Error() string {
	owner := "it was not made by this application"
	if e.Owner != "" {
		owner = "it is managed by " + e.Owner
	}
	return fmt.Sprintf("%s exists already and %s; it is left as it is: delete it, or choose another name", e.Object, owner)
}

// refusal is how the API server's authorizer words a refusal (k8s.io/apiserver,
// endpoints/handlers/responsewriters). Admission also answers 403, in other words.
var refusal = regexp.MustCompile(`User "([^"]*)" cannot ([a-z]+) resource "([^"]*)"(?: in API group "([^"]*)")?`)

// explain turns a refusal by the authorizer into a ForbiddenError and adds what
// was being done to any other error.
func explain(err error, identity Identity, doing string, object Reference) error {
	if err == nil {
		return nil
	}
	if apierrors.IsForbidden(err) {
		if match := refusal.FindStringSubmatch(err.Error()); match != nil {
			resource := match[3]
			if match[4] != "" {
				resource += "." + match[4]
			}
			return &ForbiddenError{Identity: identity, Verb: match[2], Resource: resource, Object: object,
				Operator: match[2] == "impersonate", cause: err}
		}
	}
	return fmt.Errorf("%s %s: %w", doing, object, err)
}

// IsForbidden tells whether a permission is lacking.
func IsForbidden(err error) bool {
	var forbidden *ForbiddenError
	return errors.As(err, &forbidden)
}

// IsNotOurs tells whether an object of somebody else is in the way.
func IsNotOurs(err error) bool {
	var notOurs *NotOursError
	return errors.As(err, &notOurs)
}

// IsUnknownKind tells whether the cluster does not know the kind of an object.
func IsUnknownKind(err error) bool { return meta.IsNoMatchError(err) }

// IsRefused tells whether the API server looked at an object and will not have
// it: trying the same again will not help, and nothing was changed.
func IsRefused(err error) bool {
	if IsForbidden(err) || IsNotOurs(err) || apierrors.IsForbidden(err) {
		return true
	}
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
}
