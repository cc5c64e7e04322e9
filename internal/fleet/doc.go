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
// host run one at a time; observation goes on beside them.
//
// It promises that no method blocks on a host, that a dead host costs a timer
// and not a worker, that refused credentials and changed identities stop all
// attempts until the Host's endpoint changes or a pass is asked for, that lost
// contact changes no answer (the last ones stay, with their age), that a job
// decided before contact was lost or the endpoint changed is handed back and
// not carried out later, and that everything a host can send is bounded.
//
// It must never decide what to do about an observation, never read a Secret and
// never call the API server. Transports and machines are plugged in by the
// composition root through Connect.
//
// Time: schedules and back-off follow the injected clock; the time limits of
// single requests are the network's and run on the real one.
package fleet
