// Package credential turns Secrets into credentials. It is the only reader of
// Secrets in the project.
//
// It promises live reads of single, named Secrets, a version that changes with
// the content, and errors that name the Secret and the keys that are missing for
// the way to log in, never a value.
//
// # How a changed Secret is noticed
//
// The operator may get Secrets, and neither list nor watch them: RBAC cannot
// give a watch of the metadata without the contents, so a watch would put every
// Secret of the cluster within reach of whoever takes the operator over. A
// change is therefore found by reading again, one GET of one named Secret:
//
//   - every 5 seconds while a Host is stopped for its credentials or its
//     identity, or its Secret is missing: the corrected one is used at once;
//   - whenever the link of a Host has news, such as a refused login;
//   - every 10 minutes otherwise, which costs 2,000 Hosts 3 GETs a second.
//
// It must never keep a Secret longer than the call, log one, or write one.
package credential
