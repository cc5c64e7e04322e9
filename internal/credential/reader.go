package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Keys of a Secret with credentials: those of the types kubernetes.io/basic-auth
// and kubernetes.io/ssh-auth, and the passphrase of an encrypted private key.
const (
	UsernameKey   = corev1.BasicAuthUsernameKey
	PasswordKey   = corev1.BasicAuthPasswordKey
	PrivateKeyKey = corev1.SSHAuthPrivateKey
	PassphraseKey = "passphrase"
	// CertificateKey holds the OpenSSH user certificate of the private key.
	CertificateKey = "ssh-certificate"
	// BecomePasswordKey holds what sudo is given if it asks.
	BecomePasswordKey = "become-password"
	// The client certificate of WinRM, as in a Secret of type kubernetes.io/tls.
	ClientCertificateKey = corev1.TLSCertKey
	ClientKeyKey         = corev1.TLSPrivateKeyKey
)

// NotFoundError says that an object that the user named is not there.
type NotFoundError struct {
	Kind string // Secret or ConfigMap
	Key  types.NamespacedName
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s %s does not exist", e.Kind, e.Key) }

// InvalidError says that an object does not hold what is needed.
type InvalidError struct {
	Kind   string // Secret or ConfigMap
	Key    types.NamespacedName
	Reason string // "has no key ..."
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s %s %s", e.Kind, e.Key, e.Reason) }

// Reader reads single Secrets. The client.Reader must be live: one with a cache would list and watch.
type Reader struct{ client.Reader }

// Credentials reads the keys of a Secret that let the operator in, as far as they
// are there. Which of them are needed depends on how a host is reached: see Lacking.
func (r Reader) Credentials(ctx context.Context, namespace, name string) (Credentials, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	secret := &corev1.Secret{}
	if err := r.get(ctx, "Secret", key, secret); err != nil {
		return Credentials{}, err
	}
	data := secret.Data
	credentials := Credentials{
		Revision:   string(secret.UID) + "/" + secret.ResourceVersion,
		Username:   line(data[UsernameKey]),
		Password:   line(data[PasswordKey]),
		PrivateKey: data[PrivateKeyKey],
		Passphrase: line(data[PassphraseKey]),

		Certificate:       data[CertificateKey],
		BecomePassword:    line(data[BecomePasswordKey]),
		ClientCertificate: data[ClientCertificateKey],
		ClientKey:         data[ClientKeyKey],
	}
	credentials.Version = version(data[UsernameKey], data[PasswordKey], data[PrivateKeyKey], data[PassphraseKey],
		data[CertificateKey], data[BecomePasswordKey], data[ClientCertificateKey], data[ClientKeyKey])
	return credentials, nil
}

// CA reads PEM certificates of an authority from a ConfigMap or Secret.
func (r Reader) CA(ctx context.Context, namespace string, reference v1alpha1.CAReference) ([]byte, error) {
	key := types.NamespacedName{Namespace: namespace, Name: reference.Name}
	kind, dataKey := reference.Kind, reference.Key
	if kind == "" {
		kind = "ConfigMap"
	}
	if dataKey == "" {
		dataKey = "ca.crt"
	}
	read := r.configMap
	if kind == "Secret" {
		read = r.secret
	}
	data, err := read(ctx, key)
	if err != nil {
		return nil, err
	}
	pem, ok := data[dataKey]
	if !ok {
		return nil, &InvalidError{Kind: kind, Key: key, Reason: fmt.Sprintf("has no key %q", dataKey)}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return nil, &InvalidError{Kind: kind, Key: key, Reason: fmt.Sprintf("has no PEM certificate in key %q", dataKey)}
	}
	return pem, nil
}

// Value reads one key of a Secret.
func (r Reader) Value(ctx context.Context, namespace string, reference v1alpha1.KeyReference) ([]byte, error) {
	key := types.NamespacedName{Namespace: namespace, Name: reference.Name}
	data, err := r.secret(ctx, key)
	if err != nil {
		return nil, err
	}
	value, ok := data[reference.Key]
	if !ok {
		return nil, &InvalidError{Kind: "Secret", Key: key, Reason: fmt.Sprintf("has no key %q", reference.Key)}
	}
	return value, nil
}

func (r Reader) secret(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	if err := r.get(ctx, "Secret", key, secret); err != nil {
		return nil, err
	}
	return secret.Data, nil
}

func (r Reader) configMap(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	configMap := &corev1.ConfigMap{}
	if err := r.get(ctx, "ConfigMap", key, configMap); err != nil {
		return nil, err
	}
	data := configMap.BinaryData
	if data == nil {
		data = map[string][]byte{}
	}
	for name, value := range configMap.Data {
		data[name] = []byte(value)
	}
	return data, nil
}

func (r Reader) get(ctx context.Context, kind string, key types.NamespacedName, object client.Object) error {
	err := r.Reader.Get(ctx, key, object)
	switch {
	case apierrors.IsNotFound(err):
		return &NotFoundError{Kind: kind, Key: key}
	case err != nil:
		return fmt.Errorf("read %s %s: %w", kind, key, err)
	}
	return nil
}

// line is a value without the newline that an editor or "echo" left at its
// end; no name or password that can be typed ends in one.
func line(value []byte) string { return strings.TrimRight(string(value), "\r\n") }

var versionKey = func() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // It never fails: see crypto/rand.
	return key
}()

func version(values ...[]byte) string {
	mac := hmac.New(sha256.New, versionKey)
	for _, value := range values {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(value))) // A hash does not fail.
		mac.Write(value)
	}
	return hex.EncodeToString(mac.Sum(nil))
}
