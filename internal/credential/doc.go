// Package credential turns Secrets into credentials. It is the only reader of
// Secrets in the project.
//
// It promises live reads of single, named Secrets (the operator may get, never
// list or watch them all), a version that changes with the content, and errors
// that name the Secret and the key that is missing, never a value.
//
// It must never keep a Secret longer than the call, log one, or write one.
package credential
