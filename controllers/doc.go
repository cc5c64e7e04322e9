// Package controllers is the composition root: it makes the fleet, plugs the
// transports and machines into it, and sets up a controller for each kind.
//
// It is the only importer of all kinds, transports and machines, and holds no
// logic of its own: what could be decided here belongs into one of them.
package controllers
