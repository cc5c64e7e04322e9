// Package command stands in for Windows PowerShell, which cannot run under Wine.
//
// It does not interpret scripts. It knows the two scripts by which the operator
// delivers and hashes files, tells them by the first line of what -EncodedCommand
// carries ("# isthmus:deliver v1", "# isthmus:hash v1"), and performs their contract
// natively on the files of the machine's drive:
//
//   - deliver reads a line of JSON, {"path": ..., "size": N, "sha256": hex}, and then
//     the content as base64 lines up to the end of input. It writes a temporary file
//     in the same directory, checks size and hash, and moves it into place; the
//     program of a running process is first renamed to NAME.old-HASH8. It answers
//     {"ok":true,"sha256":...,"size":N} and exits 0, or {"ok":false,"error":...,
//     "code":"HashMismatch|InUse|AccessDenied|NotFound|BadRequest|Failed"} and exits 1.
//   - hash reads lines {"path": ...} and answers each with {"path":...,"exists":true,
//     "sha256":...,"size":N}, {"path":...,"exists":false} or {"path":...,"error":...}.
//
// Whether the real scripts keep the same contract, only a real Windows host can tell.
// Any other script is refused on standard error with the exit code 1.
//
// It must never succeed for a script that it does not know, and never touch a file
// outside of the machine's drive.
package command
