// Package graph turns the components of a HybridApplication into a graph that
// can be carried out, or says what is wrong with it.
//
// It owns the meaning of spec.components: what object each one describes, which
// others it waits for, and what its expressions may say. Compile finds, before
// anything is applied, every cycle, unknown component, bad expression, unknown
// field and reserved name, and reports all of them as a *Rejection whose
// problems name the component, the field and the column. Render then fills in
// the values of the components that are there.
//
// It promises a deterministic order: by level (the longest way to a component
// without dependencies), then by name. The identity of an object (apiVersion,
// kind, name, namespace) is always literal, so that an inventory can be written
// and an application removed without evaluating anything.
//
// It is pure but for the Schemas that it is given, and must never write to a cluster.
package graph
