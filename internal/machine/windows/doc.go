// Package windows implements machine.Machine for Windows hosts.
//
// It owns how checks, steps and jobs become CIM queries, CIM methods, lines for
// cmd.exe and three PowerShell scripts, and the few files under the state
// directory (C:\ProgramData\isthmus):
//
//	marks\<digest of the subject>.json   owner, and what a service was started with
//	jobs\<id>\started                    receipt of a begun job
//	jobs\<id>\exit                       receipt of a finished job
//	jobs\<id>\*-<step>                   a script and what became of it
//	epoch\<number>                       the leaders that the host has obeyed; the highest counts
//	blobs\<digest>                       content that waits for a job, at most a day
//	scripts\<digest>\                    read-only scripts, as long as they are asked for
//
// A state file is one line of ASCII JSON, written beside its name and renamed.
// The directory of a job is made by mkdir and the name of an epoch is only ever
// added, so that the host itself decides between two operators. The state
// directory is for administrators only: scripts and their environment lie in it.
//
// Observation asks WMI and starts no process on the host unless a file changed
// or a script is asked: a changed state file is read with cmd's "type", a changed file of a user is
// hashed with PowerShell, which costs up to two seconds and is used for hashing
// and delivery only. Scripts are asked beside the rest, one after the other, and
// a script that takes too long costs its own answer only.
//
// The steps of a job are carried out by the calling process, one request each;
// the receipts tell the next operator how far it came. A begun job without an
// exit receipt that this process does not run is lost; since every step is
// idempotent, a new job made from a fresh observation puts things right. A script
// is the exception: the host runs it by itself (Win32_Process.Create), at most
// once, and its own receipt says how it ended when nobody was there to see it.
// docs/proposals/0004-windows-scripts.md has what is concluded from what.
//
// It promises that what a check could not learn is a Problem, that a step that
// finds its effect done does nothing, that the epoch is checked before each
// effect (a script checks it itself once more), that a job has one exit receipt,
// that a service in a pending state is waited for and never pushed, that a name
// or value which cannot be quoted safely is refused, that scripts, environments,
// contents and URLs travel on standard input and in no argument, and that what a
// script printed is bounded and shown without the secrets that it was given.
//
// What it cannot see: CIM_DataFile lists files of local fixed disks, so a file on
// another drive is reported as absent; a file that is changed without a change
// of its size and time of writing is not hashed again; between the check of the
// epoch and its effect lies one request; a service that shares its process with
// others has no instance of its own, so that a restart of it which was broken off
// may be done twice; a script whose operator is gone runs over its time until its job is
// asked for or cancelled. A file is not delivered through a directory that is a
// link or a mount point; that a directory becomes one between the look and the
// delivery is not seen.
//
// It must never hold policy, open a connection, or decide by localised text.
package windows
