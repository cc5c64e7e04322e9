// Package linuxhost runs real Debian machines: each boots systemd as its first
// process and a real OpenSSH server, has a boot id, host keys, a machine id and
// control groups of its own, and an address on a network.Network.
//
// It owns the image that machines are made from (built once, see package cache),
// the copy-on-write file system of each machine, and the systemd-nspawn process
// that is its power supply.
//
// It promises that a machine is reachable when Start returns, that it comes back
// by itself with a new boot id when it reboots for whatever reason, and that it
// stays off when it was shut down. All that it makes is in the janitor's journal
// before it exists.
//
// It must never write to the image once that is in the cache, and never put a
// password in an argument list.
package linuxhost
