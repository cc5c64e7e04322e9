// Package artifact downloads content that the operator streams on to hosts which
// reach no server themselves (spec.files[].source with via: Operator).
//
// It promises that an address is judged at the moment of connecting, by the dialer
// that it is given, also after a redirect; that certificates are verified, that
// there are at most five redirects and none from https to http, and no proxy of the
// environment is used; that never more than the allowed size is passed on, that
// content with another digest ends in an error in place of its end, and that a
// server which falls silent is given up.
//
// It must never keep content in memory or in a file, send credentials, or put the
// query of a URL into an error: that may be a signature which lets its bearer in.
package artifact
