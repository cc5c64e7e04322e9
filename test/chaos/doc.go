// Package chaos tries to break the third invariant on real machines: no outside
// effect is lost or repeated because something died. It kills and freezes the
// operator, cuts the network, reboots a host and changes its mind, each in the
// middle of a change, and then lets the machines' own records tell what was done
// to them, and how often.
//
// It owns its tests and nothing else; the machines and the operator's process
// are those of test/story. Moments are random: the seed is printed, and
// ISTHMUS_CHAOS_SEED sets it.
//
// It must never take the operator's word for an effect, and never assert that
// something happens within a time that a busy machine cannot keep.
package chaos
