// Package condition holds the rules by which every kind writes its conditions.
//
// It owns the kstatus contract that kubectl wait, Argo CD and Flux rely on:
// Ready is always present; Reconciling and Stalled are present only while they
// are True, and never both. The summaries (Ready, Progressing, Stalled, Unready,
// Unknown) are the only way to write these three types, so that the contract
// cannot be broken by forgetting one of them. Set writes every other type.
//
// It is pure: it changes the list it is given and does nothing else. It must
// never talk to the API server, and messages must never carry times, counters
// that grow, or addresses of memory, because each of these would turn an
// unchanged state into a write.
package condition
