// Package image writes container images without a container tool: an archive of
// the form of "docker save", with one layer, that "ctr images import" takes.
//
// It owns the form of the archive and the two images that every node of the test
// bed needs: pause, which holds a Pod's namespaces, and busybox.
//
// It promises that the same content gives the same archive, byte for byte, and so
// the same image ID.
//
// It must never reach a registry: Pods of the test bed use imagePullPolicy Never.
package image
