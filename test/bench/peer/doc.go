// Package peer runs the tools that Isthmus is compared with, as Debian packages
// them: Ansible, and a program for Fabric.
//
// It owns their playbook, program, configuration and scratch directories.
//
// It promises that a peer manages the same four things as Isthmus with the same
// check before each change, verifies host keys, and works on all hosts at once;
// and that nothing of the user's own configuration of SSH or Ansible is used.
//
// It must never make a peer do work that its users would not have it do.
package peer
