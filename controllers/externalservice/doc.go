// Package externalservice reconciles ExternalServices: the desired state of one
// thing on a Host, its health, its outputs and its face inside the cluster.
//
// A pass reads the spec and what the fleet knows of the host (observe.go),
// decides with a pure function (decide.go), acts by handing one job to the fleet
// (apply.go), and keeps the Service, the EndpointSlice and the outputs
// (expose.go, outputs.go). What the spec names is read in references.go, what became
// of a job in receive.go, and cancel.go ends one that is asked to end. Deletion (delete.go) works from status.inventory. The
// conditions are written in status.go, once, at the end of the pass.
//
// It promises that
//   - what will be on the host (status.inventory) and the job that puts it there
//     (status.execution) are in the API server before the host is asked for
//     anything, by a write that fails if this pass began from an old read;
//   - a job's id follows from the object, the steps, the attempt and the number of
//     executions before it, so that no job is begun twice and none is mistaken for
//     an earlier one;
//   - a job whose outcome is not known is repeated only if all that it does may be
//     done twice; otherwise a person decides, or a look at the host finds nothing left to do;
//   - a job is cancelled after it is recorded that it is to be, once for each request;
//   - a host that does not answer changes nothing but conditions, and the
//     endpoint where the user said so;
//   - a pass that finds nothing new writes nothing.
//
// It must never do network I/O (the content of a job is opened by the link that
// hands it over), read a Secret otherwise than through
// the credential package, take over a Service that it did not make, or write spec.
package externalservice
