// Command bench measures Isthmus beside Ansible and Fabric on the same hosts,
// and measures what a dead host, ten thousand idle objects and a large file cost.
// It prints one line for each figure, RESULT NAME key=value ..., on its standard
// output, and what it is doing on its standard error.
//
// It owns the workloads and their figures. The hosts are OpenSSH servers on
// loopback (package target), the API server is a real one that waits for the disk
// (package operator), and the peers are Debian's packages (package peer).
//
// It promises that every side ends in the same state, which it reads from the
// hosts itself before and after each pass, and that nothing that it made is left
// when it ends, for whatever reason.
//
// It must never compare a pass whose end state was not verified.
package main
