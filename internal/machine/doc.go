// Package machine is the vocabulary in which Isthmus speaks about one machine:
// checks (read-only questions), answers, steps (effects) and jobs (steps with an
// identity and a receipt on the host). The packages posix and windows below it
// implement Machine; they are the only two places that know a shell.
//
// It promises that a check changes nothing, that a step is idempotent but for a user's script that does not say so, and that
// a job with a given id is begun at most once on a host, whatever number of
// operators ask for it and whenever they die.
//
// It must never hold policy (what to do about an answer is decided by the
// drivers in internal/service) and never open a connection.
package machine
