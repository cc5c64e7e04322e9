// Package cgroup gives a part of the test bed control groups of its own, on
// machines with the unified hierarchy, the legacy ones, or both.
//
// It owns one directory directly below the root of each hierarchy it uses. The
// janitor has each of them in its journal before it exists, and at the end kills
// whatever still runs inside: so even a process that has detached itself from
// its parent does not outlive the test bed.
//
// It must never move or signal a process that was not started inside a group of
// its own.
package cgroup
