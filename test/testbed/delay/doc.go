// Package delay is a TCP proxy on loopback that makes a connection slow, or
// silent, where the kernel cannot do it to a link.
//
// It owns its listener and the connections through it. It promises that bytes
// arrive unchanged, in order and each one the set delay later, both ways; the
// delay does not limit the throughput. It must never listen on anything but
// loopback.
package delay
