// Package host reconciles Hosts: who they are, how they are reached, and
// whether they answer.
//
// A pass reads the Host and its credentials (observe.go), those of the Hosts that it
// is reached through (jump.go), and whether its keys can be read (keys.go), gives the
// fleet the endpoint (configure.go), decides with a pure function what the state of the
// link means (decide.go), pins a key at the first meeting if the user asked for
// that (pin.go), and writes conditions, facts and events in status.go, once, at
// the end. Deletion (delete.go) waits while ExternalServices are on the Host.
//
// It promises that
//   - a key that is trusted on first use is in status before any credential is
//     sent to whoever showed it;
//   - refused credentials are not tried again until they change or a person asks,
//     and those of a jump host are not tried by each Host behind it;
//   - a pass that finds nothing new writes nothing, and an operator that starts
//     anew leaves the conditions as they are until it knows better;
//   - a Host in use, or on the way to another, is not let go.
//
// It must never do network I/O to a host, hold a Secret longer than a pass
// takes, or write spec.
package host
