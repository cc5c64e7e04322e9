// Package leader gives each leadership a number of its own: the epoch.
//
// Election alone cannot keep two leaders apart: one that was frozen, and wakes
// up after another was elected, acts before it notices. So each job carries the
// epoch of the leader that asked for it, and a host that has seen a higher one
// refuses it.
//
// The epoch is kept in an annotation of the Lease of the election. It promises
// to rise with each leadership: it is the larger of the one before plus one,
// and the time in seconds, so that it also rises when the Lease was deleted.
// It is drawn by an update that fails if the Lease has changed since it was
// read, and only while the Lease names the caller as holder, so a frozen leader
// that wakes up cannot draw a higher epoch than its successor.
//
// It must never elect: that is client-go's.
package leader
