// Package fleet holds one link per Host that is in use. A link is a monitor: it
// owns the connection, its back-off, the queue of work and the latest
// observation of its host, and it has goroutines only while something is under
// way: at most one for a pass (connect and observe), one for a mutation, and a
// few for probes. One goroutine and one timer for the whole fleet say when a
// link has something to do, so an idle link costs memory and nothing else.
// Reconcilers talk to the fleet only; they never do network I/O to a host.
//
// A reconciler tells the fleet what to watch (read-only checks, probes) and what
// to do (jobs). The link runs the union of all checks on its host as one
// request, on the shortest interval asked for, with jitter, and sends an event
// for an object only when the answer for that object changed. Mutations of one
// host run one at a time; observation goes on beside them. A job's content is
// staged while the job still waits, so that it can be handed back up to then.
// Cancellations go beside the lane of mutations: what waits there may wait for
// the very job that is to be cancelled. A request to cancel outlives lost contact.
//
// It promises that no method blocks on a host, that a dead host costs a timer
// and not a worker, that refused credentials stop all attempts until the login
// changes or a pass is asked for, that a changed identity does until the endpoint
// changes or a pass is asked for, that lost
// contact changes no answer (the last ones stay, with their age), that a job
// decided before contact was lost or the endpoint changed is handed back and
// not carried out later, that everything a host can send is bounded, and that no
// text of a host or a transport shows the credentials of its endpoint, of those on
// the way there, or the secrets of its objects' jobs. What is compared with a
// declaration (names, paths, command lines) is bounded and not redacted: a
// redacted one would differ for ever.
//
// It must never decide what to do about an observation, never read a Secret and
// never call the API server. Transports and machines are plugged in by the
// composition root through Connect.
//
// Time: schedules and back-off follow the injected clock; the time limits of
// single requests are the network's and run on the real one.
package fleet
