// Package command stands in for Windows PowerShell, which cannot run under Wine.
//
// It does not interpret scripts. It knows the scripts by which the operator delivers
// and hashes files and reads the ends of large ones, tells them by the first line of what -EncodedCommand
// carries ("# isthmus:deliver v2", "# isthmus:hash v1", "# isthmus:ends v1"), and performs their contract
// natively on the files of the machine's drive:
//
//   - deliver reads a line of JSON, {"path": ..., "size": N, "sha256": hex, "from": ...}, and
//     then, unless a file to copy from is named, the content as base64 lines up to the end of input. It
//     writes a temporary file in the same directory, checks size (unless it is negative) and hash, and
//     moves it into place; the program of a running process is first renamed to NAME.old-HASH8 and
//     "aside":true answered. The file that was copied is removed. It answers
//     {"ok":true,"sha256":...,"size":N} and exits 0, or {"ok":false,"error":...,
//     "code":"HashMismatch|InUse|AccessDenied|NotFound|Link|DiskFull|BadRequest|Failed"} and exits 1.
//   - hash reads lines {"path": ...} and answers each with {"path":...,"exists":true,
//     "sha256":...,"size":N}, {"path":...,"exists":false} or {"path":...,"error":...}.
//   - ends reads a line {"path": ..., "each": N} and answers {"ok":true,"head":base64,
//     "tail":base64} with the first and the last N bytes, or {"ok":false,"error":...}.
//
// It stands in for curl.exe as well, which Wine does not have: for the one command
// line and the options in a configuration on standard input that the operator uses,
// and with curl's exit codes. It checks certificates by the authorities of this
// machine, where that of Windows asks its own.
//
// Whether the real scripts keep the same contract, only a real Windows host can tell.
// Any other script is refused on standard error with the exit code 1.
//
// It must never succeed for a script that it does not know, and never touch a file
// outside of the machine's drive.
package command
