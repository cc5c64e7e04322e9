// Package cache keeps what the test bed builds once and uses often: the programs
// of a Kubernetes control plane and node, a container runtime, the file system
// of a Debian machine.
//
// It owns the directory $ISTHMUS_CACHE (or isthmus in the user's cache directory,
// see os.UserCacheDir) and, for Packages, the installation of Debian packages
// that the test bed needs.
//
// It promises that a directory it returns is complete, that one thing is built by
// one process at a time however many ask for it, and that a long build says every
// fifteen seconds that it is still at work. An interrupted build is begun anew.
//
// It must never return a half-built directory, and never change a directory once
// it has returned it; a caller must not change it either.
package cache
