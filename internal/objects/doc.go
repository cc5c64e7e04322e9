// Package objects is how an application's objects reach the API server: read,
// applied, watched and deleted as the ServiceAccount of the application's author.
//
// It owns impersonation, server-side apply, the labels by which our objects are
// known, the question whether an object is ours, readiness by kstatus, and the
// watches. What it promises:
//
//   - Every request for an application's object carries the identity of its
//     ServiceAccount. The operator's own identity reads discovery and schemas only.
//   - An object that is there and not ours is never written and never deleted.
//   - Deletion names the UID, so that an object made anew under the same name survives.
//   - What is as desired is not sent.
//   - Reads come from a watch of our own objects (by label, so that no more than
//     these is held in memory) once that is in sync, and from the API server
//     otherwise. A read that is older than asked for, or that finds nothing, is
//     always repeated at the API server before anyone acts on it.
//
// It must never use the operator's identity for an application's object, and
// never widen what an author may do.
package objects
