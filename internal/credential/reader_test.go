package credential_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
)

const canary = "canary-4711"

func secret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

func reader(objects ...client.Object) credential.Reader {
	return credential.Reader{Reader: fake.NewClientBuilder().WithObjects(objects...).Build()}
}

func TestCredentials(t *testing.T) {
	r := reader(
		secret("password", map[string]string{"username": "ann\n", "password": canary + "\r\n"}),
		secret("key", map[string]string{"ssh-privatekey": "-----BEGIN\n", "passphrase": "p\n"}),
		secret("empty", map[string]string{"username": "ann", "password": ""}),
	)
	got, err := r.Credentials(t.Context(), "shop", "password")
	require.NoError(t, err)
	assert.Equal(t, "ann", got.Username)
	assert.Equal(t, canary, got.Password, "the newline that an editor left is no part of a password")
	assert.NotEmpty(t, got.Version)

	got, err = r.Credentials(t.Context(), "shop", "key")
	require.NoError(t, err)
	assert.Equal(t, "-----BEGIN\n", string(got.PrivateKey), "a key is taken as it is")
	assert.Equal(t, "p", got.Passphrase)

	_, err = r.Credentials(t.Context(), "shop", "missing")
	var absent *credential.NotFoundError
	require.ErrorAs(t, err, &absent)
	assert.EqualError(t, err, "Secret shop/missing does not exist")
}

func TestVersionFollowsTheContentOnly(t *testing.T) {
	version := func(s *corev1.Secret) string {
		got, err := reader(s).Credentials(t.Context(), "shop", s.Name)
		require.NoError(t, err)
		return got.Version
	}
	one := secret("a", map[string]string{"username": "ann", "password": canary})
	labelled := one.DeepCopy()
	labelled.Labels, labelled.ResourceVersion, labelled.UID = map[string]string{"x": "y"}, "77", "other"
	assert.Equal(t, version(one), version(labelled))
	assert.NotEqual(t, version(one), version(secret("a", map[string]string{"username": "ann", "password": canary + "2"})))
	assert.NotEqual(t,
		version(secret("a", map[string]string{"username": "ab", "password": "c"})),
		version(secret("a", map[string]string{"username": "a", "password": "bc"})))
}

func TestNothingPrintsASecret(t *testing.T) {
	got, err := reader(secret("a", map[string]string{"username": "ann", "password": canary, "ssh-privatekey": canary})).Credentials(t.Context(), "shop", "a")
	require.NoError(t, err)
	text, err := json.Marshal(struct{ C credential.Credentials }{got})
	require.NoError(t, err)
	for _, printed := range []string{
		fmt.Sprint(got), fmt.Sprintf("%v %+v %#v %s %q", got, got, got, got, got), fmt.Sprintf("%+v", struct{ C credential.Credentials }{got}), string(text),
	} {
		assert.NotContains(t, printed, canary)
		assert.NotContains(t, printed, "99 97 110", "nor as numbers")
	}
}

func TestCA(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	r := reader(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ca"}, Data: map[string]string{"ca.crt": certificate, "junk": "x"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "binary"}, BinaryData: map[string][]byte{"ca.crt": []byte(certificate)}},
		secret("ca", map[string]string{"tls.ca": certificate}),
	)
	tests := []struct {
		reference v1alpha1.CAReference
		failure   string
	}{
		{v1alpha1.CAReference{Name: "ca"}, ""},
		{v1alpha1.CAReference{Name: "binary"}, ""},
		{v1alpha1.CAReference{Kind: "Secret", Name: "ca", Key: "tls.ca"}, ""},
		{v1alpha1.CAReference{Kind: "Secret", Name: "ca"}, `Secret shop/ca has no key "ca.crt"`},
		{v1alpha1.CAReference{Name: "ca", Key: "junk"}, `ConfigMap shop/ca has no PEM certificate in key "junk"`},
		{v1alpha1.CAReference{Name: "other"}, "ConfigMap shop/other does not exist"},
	}
	for _, test := range tests {
		got, err := r.CA(t.Context(), "shop", test.reference)
		if test.failure != "" {
			assert.EqualError(t, err, test.failure)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, certificate, string(got))
	}
}

func TestValue(t *testing.T) {
	r := reader(secret("files", map[string]string{"empty": "", "config": "a\n"}))
	got, err := r.Value(t.Context(), "shop", v1alpha1.KeyReference{Name: "files", Key: "config"})
	require.NoError(t, err)
	assert.Equal(t, "a\n", string(got), "the content of a file is not touched")
	_, err = r.Value(t.Context(), "shop", v1alpha1.KeyReference{Name: "files", Key: "empty"})
	require.NoError(t, err)
	_, err = r.Value(t.Context(), "shop", v1alpha1.KeyReference{Name: "files", Key: "other"})
	assert.EqualError(t, err, `Secret shop/files has no key "other"`)
	_, err = r.Value(t.Context(), "elsewhere", v1alpha1.KeyReference{Name: "files", Key: "config"})
	assert.EqualError(t, err, "Secret elsewhere/files does not exist")
}

type broken struct{ client.Reader }

func (broken) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return apierrors.NewTooManyRequests("slow down", 1)
}

func TestWhatMayPassIsNotTyped(t *testing.T) {
	_, err := credential.Reader{Reader: broken{}}.Credentials(t.Context(), "shop", "a")
	var absent *credential.NotFoundError
	var invalid *credential.InvalidError
	assert.False(t, errors.As(err, &absent) || errors.As(err, &invalid))
	assert.ErrorContains(t, err, "read Secret shop/a")
}
