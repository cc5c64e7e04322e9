// Package posix is a machine reached through a POSIX shell. It turns checks
// into one script that asks them all, and jobs into a script that the host runs
// by itself, and reads the answers back.
//
// # Requests
//
// One request is one run of "/bin/sh -s" (through sudo -n if asked for), with the
// script on its standard input; a script of more than 32 KiB is read whole and
// evaluated, for bash reads a script from a pipe byte by byte. The script is one function that is called in
// the last line, with no input of its own: a script that arrives in part runs
// not at all, and nothing it starts can eat the rest of it. What is answered
// stands between two lines that hold a random word, so that whatever profiles
// and banners print is passed over. Nothing is assumed on the host but a POSIX
// shell, coreutils or BusyBox, and, for services, systemd 232 or newer; for
// downloads curl or wget. Where there is no setsid(1), of a user's script that runs out of time only the
// first process is ended.
//
// With a password, sudo -S asks for it in random words on the error stream. It is
// written once, after those words were seen; the script is written after another random
// word, which the shell behind sudo prints, was seen. To be asked twice means
// that the password is wrong: the input is closed, and the machine does not ask again.
//
// # Scripts of users
//
// All checks of a request that are scripts run in one room: a shell in a session of its own, which feeds each
// to its interpreter by here-document, in a session of its own again. In the room waits a timer for the end of
// the time, and a reader of the request's input, which stays open for as long as somebody waits for the
// answer: when the request is cancelled or the connection ends, the scripts do. Each of the two sends signals
// to the room's group: each script is ended (TERM), two seconds later (one, if nobody waits) killed, and one
// second later goes what waits for something that has left its script's session and holds the output open. The
// room is out of reach of the KILL with which sshd may end a request's own shell. A script that may take less
// time than there is has a timer of its own. A connection that only falls silent leaves the timer. Up to four
// scripts run at once. All of them together have the time of the pass but for four seconds; what has not run
// or ended by then is a Problem, and so nothing that a script does keeps the other answers, which stand
// before, from coming. Its environment is exported by the last process before the interpreter, and shows on
// the host where any environment does: in that process, for its user and root. Of its output tail keeps the
// end, and values are hidden here. Bash before 5.1 keeps here-documents in files (0600, without a name once
// they are open), all other shells in pipes.
//
// Checks that are no scripts end by themselves.
//
// # State on the host
//
// The state directory (/var/lib/isthmus) belongs to the user that requests run
// as, mode 0700, and holds
//
//	marks/<sha256 of the subject>   who manages a thing, and what it was last started with
//	jobs/<id>/started               epoch, boot, process and time; there once the job has begun
//	jobs/<id>/exit                  exit code, step and time; there once it has ended
//	jobs/<id>/output, message       what it printed, bounded and redacted; its last 2 KiB
//	jobs/<id>/cancel               there if somebody wanted it ended
//	jobs/<id>/script.*              the job itself, until it has begun: it holds file contents
//	blobs/<sha256>                 staged content, for a day
//	epoch/<n>                       the newest leader that was obeyed
//
// # Jobs
//
// The whole script of a job is delivered and its digest compared before it is
// launched. The process that is launched (a transient systemd unit where
// systemd runs, otherwise a session of its own) begins the job by linking its
// receipt into place, which one process can do once; it removes the script as
// soon as it was read. So a connection that ends at any moment leaves a job that
// has not begun, or one that has and does not need the connection.
//
// An epoch is obeyed from the first job that carries it. A job of a lower one is
// refused with machine.StaleLeaderError, before it is delivered and once more
// when it has written its receipt: a new leader that has written its epoch and
// then finds no receipt knows that the job will never begin. What has begun goes
// on. Epochs are forgotten with the last mark and the last receipt (Forget
// removes the directory then), for a host on which nothing is managed has
// nothing to protect.
//
// A job is cancelled by a file that its supervisor looks for once it has
// written down the process of the steps; who cancels writes the file first and looks for the process
// then, so that one of the two sees the other. The supervisor writes the one receipt; only where it is gone does
// who cancels, by a link that can be made once. What has left the process
// group is ended with the transient unit; where there is no systemd, it is not found.
//
// # Files
//
// Content is written into a new file in the destination's directory, which was
// entered one component at a time, verified, given its owner and mode, flushed and renamed. Staged
// content is linked there if it is on the same file system and written there if not.
//
// # Errors
//
// A sudo that refuses (exit code 1 and no answer) is a transport.CredentialsError: each attempt is logged and
// reported on the host, so nothing more is tried until a person acts. A job that the host answers and will not begin
// is a machine.RefusedError: the connection is as good as before. What cannot
// be learnt about one check is a machine.Problem; a file is Absent only if the
// host said so in the words for ENOENT or ENOTDIR.
//
// The package must never hold policy, open a connection, or put a secret into
// an argument, an environment or an error.
package posix
