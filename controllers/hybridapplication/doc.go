// Package hybridapplication carries out HybridApplications: it makes the
// objects of a graph in the order of their dependencies, keeps them as
// declared, and removes them in reverse.
//
// It owns the status and the finalizer of HybridApplications, and nothing else
// with the operator's own identity. Every object of an application is read,
// applied, watched and deleted as the ServiceAccount that the application
// names; what that account may not do, the application cannot do.
//
// One pass is: compile the graph (once for each generation); look at every
// object; then, level by level, render what can be rendered, record in
// status.inventory what is about to be created, apply what is ready to be
// applied; prune what left the graph; write the status. Deciding is a pure
// function (decide.go) of what was seen and what was recorded.
//
// # What it promises
//
//   - A graph that is wrong is refused as a whole; what runs keeps running, as it was.
//   - An object is recorded before it is created, and removed by what was recorded.
//   - A component whose state cannot be known holds everything that depends on
//     it: nothing there is changed, corrected or removed.
//   - What left the graph is removed when all that is in the graph is ready.
//   - A pass that changes nothing writes nothing.
//
// # Watches
//
// There is one watch for each ServiceAccount, namespace and kind in use, with
// the rights of that ServiceAccount, limited by label to objects that
// applications own (a component that only refers to an object has a watch for
// this one). So the operator's role needs no right to watch anything but its
// own kind, and its memory holds the members of applications only. They are
// shared by all applications of the same author and end with the last one that
// needs them. The watch carries whole objects (without managedFields), because
// readiness and expressions need the status: metadata alone would cost a read
// for every change. If the ServiceAccount may not watch a kind, its objects are
// read every half minute instead, and the component's message says so.
//
// It must never evaluate the spec in order to delete, never touch an object
// that is not the application's, and never use the operator's own identity
// for an application's object.
package hybridapplication
