// Package realm is a Kerberos realm on this machine, for tests: Debian's krb5kdc
// on a loopback port, and an acceptor of security contexts that is MIT's GSS-API
// (through Debian's python3-gssapi), so that a client is checked against code that
// nobody here wrote.
//
// It owns the database, the keytab and the processes; all of it lies in one
// directory and is in the janitor's journal. It needs no root beyond the
// installation of the packages.
//
// It must never read or change /etc/krb5.conf or the machine's keytab, and never
// listen anywhere else than on loopback.
package realm
