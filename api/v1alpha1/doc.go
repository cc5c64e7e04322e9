// Package v1alpha1 holds the kinds of the group isthmus.dev: Host,
// ExternalService and HybridApplication.
//
// It owns the shape of what users write and read: fields, defaults, bounds,
// validation and the words of conditions. It imports apimachinery only, holds
// no behaviour beyond small accessors, and must never import another package
// of this project.
//
// Conventions: durations are strings ("30s"); an unset field is not managed, a
// value is enforced, an empty value removes; references are named and stay in
// the object's own namespace; Ready is Unknown while working and False only
// when a person is needed.
//
// +kubebuilder:object:generate=true
// +groupName=isthmus.dev
package v1alpha1
