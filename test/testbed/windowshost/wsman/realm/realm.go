package realm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// Packages of Debian that a realm is made of.
var Packages = []string{"krb5-kdc", "krb5-admin-server", "krb5-user", "python3-gssapi"}

// Options say what a realm is like.
type Options struct {
	Dir      string
	Janitor  *janitor.Janitor
	Progress io.Writer
	// Name in upper case; CORP.EXAMPLE if empty.
	Name string
	// Users have their passwords by their names.
	Users map[string]string
	// Services get random keys, which the acceptor knows: HTTP/localhost.
	Services []string
	// Encryption is what all keys are made for, those of sessions too, in MIT's words;
	// AES with SHA-1 if empty.
	Encryption string
}

// Realm is a running realm.
type Realm struct {
	options Options
	address string
	kdc     *process.Process
}

// Start makes the database and starts the KDC.
func Start(ctx context.Context, o Options) (*Realm, error) {
	if o.Name == "" {
		o.Name = "CORP.EXAMPLE"
	}
	if o.Encryption == "" {
		o.Encryption = "aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal"
	}
	if err := cache.Packages(ctx, o.Progress, Packages...); err != nil {
		return nil, err
	}
	r := &Realm{options: o}
	if err := r.chooseAddress(); err != nil {
		return nil, err
	}
	if err := errors.Join(r.configure(), r.fill(ctx)); err != nil {
		return nil, fmt.Errorf("make realm %s: %w", o.Name, err)
	}
	var err error
	if r.kdc, err = process.Start(o.Janitor, o.Dir, "krb5kdc", r.Environment(), "/usr/sbin/krb5kdc", "-n"); err != nil {
		return nil, err
	}
	if err := r.waitListening(ctx); err != nil {
		return nil, errors.Join(err, r.Stop(ctx))
	}
	return r, nil
}

// chooseAddress finds a port that is free now. If somebody takes it before the KDC
// does, the KDC ends and Start says so.
func (r *Realm) chooseAddress() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("choose a port for the KDC: %w", err)
	}
	r.address = listener.Addr().String()
	return listener.Close()
}

func (r *Realm) configure() error {
	client := `[libdefaults]
default_realm = ` + r.options.Name + `
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
permitted_enctypes = ` + strings.ReplaceAll(r.options.Encryption, ":normal", "") + `
[realms]
` + r.options.Name + ` = {
  kdc = ` + r.address + `
}
`
	server := `[kdcdefaults]
kdc_listen = ` + r.address + `
kdc_tcp_listen = ` + r.address + `
[realms]
` + r.options.Name + ` = {
  database_name = ` + r.path("principal") + `
  key_stash_file = ` + r.path("stash") + `
  acl_file = ` + r.path("acl") + `
  max_life = 10h
  supported_enctypes = ` + r.options.Encryption + `
  default_principal_flags = +preauth
}
[logging]
kdc = FILE:` + r.path("kdc.log") + `
`
	return errors.Join(os.WriteFile(r.path("krb5.conf"), []byte(client), 0o600), os.WriteFile(r.path("kdc.conf"), []byte(server), 0o600))
}

// fill makes the database with its principals. What programs are given by
// arguments here are secrets of a test.
func (r *Realm) fill(ctx context.Context) error {
	if err := r.run(ctx, "/usr/sbin/kdb5_util", "create", "-s", "-P", "of the test", "-r", r.options.Name); err != nil {
		return err
	}
	for user, password := range r.options.Users {
		if err := r.SetPassword(ctx, user, password); err != nil {
			return err
		}
	}
	for _, service := range r.options.Services {
		if err := errors.Join(r.admin(ctx, "addprinc -randkey "+service), r.admin(ctx, "ktadd -k "+r.Keytab()+" "+service)); err != nil {
			return err
		}
	}
	return nil
}

// SetPassword makes an account, or changes its password.
func (r *Realm) SetPassword(ctx context.Context, user, password string) error {
	if err := r.admin(ctx, `cpw -pw "`+password+`" `+user); err == nil {
		return nil
	}
	return r.admin(ctx, `addprinc -pw "`+password+`" `+user)
}

// ChangeKey gives a service a new key, which only the keytab has beside the KDC.
func (r *Realm) ChangeKey(ctx context.Context, service string) error {
	return errors.Join(os.Remove(r.Keytab()), r.admin(ctx, "ktadd -k "+r.Keytab()+" "+service))
}

// admin carries out a request of kadmin, which prints its failures and exits with 0.
func (r *Realm) admin(ctx context.Context, request string) error {
	cmd := exec.CommandContext(ctx, "/usr/sbin/kadmin.local", "-r", r.options.Name, "-q", request)
	cmd.Env = append(os.Environ(), r.Environment()...)
	out, err := cmd.CombinedOutput()
	for _, word := range []string{"rror", "does not exist", "denied", "cannot", "while"} {
		if err == nil && strings.Contains(string(out), word) {
			err = errors.New("refused")
		}
	}
	if err != nil {
		return fmt.Errorf("kadmin: %w\n%s", err, out)
	}
	return nil
}

func (r *Realm) run(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), r.Environment()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(argv[0]), err, out)
	}
	return nil
}

func (r *Realm) waitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := net.DialTimeout("tcp", r.address, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-r.kdc.Exited():
			return r.kdc.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for the KDC: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r *Realm) path(name string) string { return filepath.Join(r.options.Dir, name) }

// Name is the realm's name.
func (r *Realm) Name() string { return r.options.Name }

// Address is where the KDC is.
func (r *Realm) Address() string { return r.address }

// Keytab is the file with the keys of the services.
func (r *Realm) Keytab() string { return r.path("keytab") }

// Environment has programs of MIT Kerberos use this realm.
func (r *Realm) Environment() []string {
	return []string{
		"KRB5_CONFIG=" + r.path("krb5.conf"), "KRB5_KDC_PROFILE=" + r.path("kdc.conf"), "KRB5CCNAME=FILE:" + r.path("cache"),
		"KRB5RCACHENAME=file2:" + r.path("replay"), "KRB5_KTNAME=FILE:" + r.Keytab(), "LC_ALL=C.UTF-8",
	}
}

// Stop ends the KDC.
func (r *Realm) Stop(ctx context.Context) error { return r.kdc.Stop(ctx) }
