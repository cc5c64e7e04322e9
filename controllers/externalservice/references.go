package externalservice

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/service"
)

// missingError says which reference leads nowhere.
type missingError struct {
	field string
	err   error
}

func (e *missingError) Error() string { return e.field + ": " + e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

// source reads everything that the spec names.
func (p *pass) source(ctx context.Context) (service.Source, error) {
	source := service.Source{
		Spec: &p.object.Spec, OS: p.host.Spec.OS, Owner: p.owner,
		Contents: map[string]service.Content{}, Environment: map[string][]byte{},
	}
	for _, f := range p.object.Spec.Files {
		if f.ContentFrom == nil {
			continue
		}
		content, err := p.content(ctx, "spec.files["+f.Path+"]", *f.ContentFrom)
		if err != nil {
			return service.Source{}, err
		}
		source.Contents[f.Path] = content
	}
	if p.object.Spec.Script == nil {
		return source, nil
	}
	for _, variable := range p.object.Spec.Script.Environment {
		if variable.SecretKeyRef == nil {
			continue
		}
		value, err := p.secret(ctx, "spec.script.environment["+variable.Name+"]", *variable.SecretKeyRef)
		if err != nil {
			return service.Source{}, err
		}
		source.Environment[variable.Name] = value
	}
	return source, nil
}

// content reads one key of a ConfigMap or Secret.
func (p *pass) content(ctx context.Context, field string, source v1alpha1.ContentSource) (service.Content, error) {
	if reference := source.SecretKeyRef; reference != nil {
		data, err := p.secret(ctx, field, *reference)
		return service.Content{Data: data, Confidential: true}, err
	}
	reference := source.ConfigMapKeyRef
	configMap := &corev1.ConfigMap{}
	err := p.Live.Get(ctx, types.NamespacedName{Namespace: p.object.Namespace, Name: reference.Name}, configMap)
	if apierrors.IsNotFound(err) {
		return service.Content{}, &missingError{field, fmt.Errorf("ConfigMap %s does not exist", reference.Name)}
	}
	if err != nil {
		return service.Content{}, fmt.Errorf("read ConfigMap %s/%s: %w", p.object.Namespace, reference.Name, err)
	}
	if text, ok := configMap.Data[reference.Key]; ok {
		return service.Content{Data: []byte(text)}, nil
	}
	if data, ok := configMap.BinaryData[reference.Key]; ok {
		return service.Content{Data: data}, nil
	}
	return service.Content{}, &missingError{field, fmt.Errorf("ConfigMap %s has no key %s", reference.Name, reference.Key)}
}

// secret reads one key of a Secret, which is read again at every interval: it is not watched.
func (p *pass) secret(ctx context.Context, field string, reference v1alpha1.KeyReference) ([]byte, error) {
	p.confidential = true
	data, err := p.Secrets.Value(ctx, p.object.Namespace, reference)
	if isTransient(err) {
		return nil, fmt.Errorf("read Secret %s/%s: %w", p.object.Namespace, reference.Name, err)
	}
	if err != nil {
		return nil, &missingError{field, err}
	}
	return data, nil
}

// removalValues reads what recorded remove scripts need, as far as it is there.
func (p *pass) removalValues(ctx context.Context, things []v1alpha1.ManagedThing) (map[v1alpha1.KeyReference][]byte, error) {
	values := map[v1alpha1.KeyReference][]byte{}
	for _, reference := range service.RemovalSecrets(things) {
		value, err := p.secret(ctx, "status.inventory", reference)
		var missing *missingError
		switch {
		case errors.As(err, &missing):
		case err != nil:
			return nil, err
		default:
			values[reference] = value
		}
	}
	return values, nil
}

// isTransient tells an API server that did not answer from an answer.
func isTransient(err error) bool {
	if err == nil || apierrors.IsNotFound(err) {
		return false
	}
	var status apierrors.APIStatus
	return errors.As(err, &status) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
