// Package process runs the long-lived programs of the test bed: a database, an
// API server, a scheduler.
//
// It owns a child process from start to end: its process group, its log file and
// its line in the janitor's journal.
//
// It promises that no child outlives its owner, even one that is killed between
// the start of the child and the line in the journal: a child waits for a word
// on its standard input before it becomes the program, and the end of the owner
// is the end of that wait. A program that dies early is reported with the end of
// its log.
//
// It must never end a process that it did not start.
package process
