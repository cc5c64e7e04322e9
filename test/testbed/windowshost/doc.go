// Package windowshost is a stand-in for a Windows Server, for tests and the
// demonstration, on a Linux machine: a WS-Management service (package wsman) in this
// process, in front of a real Wine (package wine) with its C: drive, registry,
// processes and service control manager, and the CIM classes (package cim) between.
//
// It owns what the host is made of: the Wine machine, the certificates, the listener,
// and the accounts. All of it is in the janitor's journal before it exists.
//
// It promises that what a client changes is really changed and what it reads is
// really so: services run, files lie on the drive, PIDs are those of processes. The
// journal of effects tells afterwards what was done, and how often. With a network
// namespace the host has an address of its own, at which its services can be reached
// as well; without one it listens on loopback, and needs no root.
//
// It is no Windows. Each of the packages says in its own documentation what differs;
// above all there is no PowerShell, only a stand-in for two scripts (package command),
// and cmd.exe writes text outside of ASCII in another code page than was asked for.
//
// It must never listen anywhere else than on loopback or inside the namespace.
package windowshost
