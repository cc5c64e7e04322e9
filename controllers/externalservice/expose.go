package externalservice

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	discoveryapply "k8s.io/client-go/applyconfigurations/discovery/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

const (
	// sliceManager is the value of the label endpointslice.kubernetes.io/managed-by.
	sliceManager = "isthmus"
	// conflictRetry: nothing tells of a foreign Service that goes away.
	conflictRetry = time.Minute
)

// face is what the service should look like from inside the cluster.
type face struct {
	name    string
	address netip.Addr // not valid while it is not known
	ready   bool
}

// expose keeps the Service and the EndpointSlice.
func (p *pass) expose(ctx context.Context) (next, error) {
	if p.object.Spec.Expose == nil {
		return onwards, p.unexpose(ctx, "")
	}
	wanted := p.face()
	if err := p.unexpose(ctx, wanted.name); err != nil {
		return finished, err
	}
	service, err := p.keepService(ctx, wanted)
	if err != nil || service == nil {
		return onwards, err
	}
	endpoint := &v1alpha1.Endpoint{ServiceName: wanted.name, Ready: wanted.ready}
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		endpoint.ClusterIP = service.Spec.ClusterIP
	}
	if wanted.address.IsValid() {
		endpoint.Address = wanted.address.String()
		if kept, err := p.keepSlice(ctx, wanted); err != nil || !kept {
			endpoint.Ready = false
			p.object.Status.Endpoint = endpoint
			return onwards, err
		}
	} else {
		endpoint.Ready = false
		if err := p.dropOtherFamily(ctx, wanted); err != nil {
			return finished, err
		}
	}
	p.object.Status.Endpoint = endpoint
	return onwards, nil
}

// face decides name, address and readiness.
func (p *pass) face() face {
	spec := p.object.Spec.Expose
	f := face{name: spec.ServiceName}
	if f.name == "" {
		f.name = p.object.Name
	}
	last := p.object.Status.Endpoint
	for _, candidate := range []string{spec.Address, p.view.Address, p.host.Spec.Address, lastAddress(last)} {
		if address, err := netip.ParseAddr(candidate); err == nil {
			f.address = address.Unmap().WithZone("")
			break
		}
	}
	if f.address.IsValid() && unfit(f.address) {
		p.problems = append(p.problems, problem{v1alpha1.ReasonInvalid, fmt.Sprintf(
			"spec.expose: %s is a loopback, link-local, multicast or unspecified address, which Kubernetes refuses for endpoints; set spec.expose.address to one that Pods can reach", f.address)})
		f.address = netip.Addr{}
	}
	switch p.health.traffic {
	case admit:
		f.ready = true
	case asSoFar:
		f.ready = last != nil && last.Ready
	}
	return f
}

func lastAddress(endpoint *v1alpha1.Endpoint) string {
	if endpoint == nil {
		return ""
	}
	return endpoint.Address
}

// unfit follows ValidateNonSpecialIP of the API server.
func unfit(address netip.Addr) bool {
	return address.IsUnspecified() || address.IsLoopback() || address.IsLinkLocalUnicast() || address.IsMulticast()
}

func (p *pass) conflict(kind, name string) {
	p.problems = append(p.problems, problem{v1alpha1.ReasonConflict, fmt.Sprintf(
		"spec.expose: %s %s exists and is not ours; choose another spec.expose.serviceName or delete it", kind, name)})
	p.again(conflictRetry)
}

// keepService applies the Service if it differs; nil if the name is taken.
func (p *pass) keepService(ctx context.Context, wanted face) (*corev1.Service, error) {
	service := &corev1.Service{}
	err := p.Live.Get(ctx, types.NamespacedName{Namespace: p.object.Namespace, Name: wanted.name}, service)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read Service %s: %w", wanted.name, err)
	}
	exists := err == nil
	if exists && !p.owns(service) {
		p.conflict("Service", wanted.name)
		return nil, nil
	}
	if exists && p.sameService(service) {
		return service, nil
	}
	err = p.Client.Apply(ctx, p.serviceConfiguration(wanted.name), applying...)
	if err == nil {
		err = p.Live.Get(ctx, types.NamespacedName{Namespace: p.object.Namespace, Name: wanted.name}, service)
	}
	if exists && (err == nil && !p.sameService(service) || apierrors.IsInvalid(err)) {
		err = p.replacePorts(ctx, service)
	}
	return p.acceptedService(service, err)
}

// replacePorts removes ports that somebody else added to our Service: an apply
// leaves alone what another field manager owns, and a port is known by its number.
func (p *pass) replacePorts(ctx context.Context, service *corev1.Service) error {
	before := service.DeepCopy()
	service.Spec.Ports = nil
	for _, port := range p.object.Spec.Ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: port.Name, Port: port.Port, TargetPort: intstr.FromInt32(target(port)), Protocol: protocol(port),
		})
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return p.Client.Patch(ctx, service, patch, client.FieldOwner(v1alpha1.FieldManager))
}

// acceptedService turns what the API server does not accept into a problem.
func (p *pass) acceptedService(service *corev1.Service, err error) (*corev1.Service, error) {
	if apierrors.IsInvalid(err) {
		p.problems = append(p.problems, problem{v1alpha1.ReasonInvalid, timeless("spec.expose: " + err.Error())})
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("apply Service: %w", err)
	}
	return service, nil
}

var applying = []client.ApplyOption{client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership}

// owns tells whether an object was made for this ExternalService.
func (p *pass) owns(object metav1.Object) bool { return metav1.IsControlledBy(object, p.object) }

func (p *pass) reference() *metaapply.OwnerReferenceApplyConfiguration {
	return metaapply.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).WithKind(Kind).
		WithName(p.object.Name).WithUID(p.object.UID).
		WithController(true).WithBlockOwnerDeletion(true)
}

func (p *pass) serviceConfiguration(name string) *coreapply.ServiceApplyConfiguration {
	spec := coreapply.ServiceSpec()
	for _, port := range p.object.Spec.Ports {
		spec.WithPorts(coreapply.ServicePort().WithName(port.Name).WithPort(port.Port).
			WithTargetPort(intstr.FromInt32(target(port))).WithProtocol(protocol(port)))
	}
	return coreapply.Service(name, p.object.Namespace).
		WithLabels(map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}).
		WithOwnerReferences(p.reference()).WithSpec(spec)
}

func target(port v1alpha1.ServicePort) int32 {
	if port.TargetPort != 0 {
		return port.TargetPort
	}
	return port.Port
}

func protocol(port v1alpha1.ServicePort) corev1.Protocol {
	if port.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return corev1.Protocol(port.Protocol)
}

// sameService compares what we apply with what is there.
func (p *pass) sameService(service *corev1.Service) bool {
	if service.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue {
		return false
	}
	return slices.EqualFunc(p.object.Spec.Ports, service.Spec.Ports, func(want v1alpha1.ServicePort, have corev1.ServicePort) bool {
		return want.Name == have.Name && want.Port == have.Port &&
			have.TargetPort == intstr.FromInt32(target(want)) && protocol(want) == have.Protocol
	})
}

// sliceName has the family in it, because the family of a slice cannot be changed.
func sliceName(service string, family discoveryv1.AddressType) string {
	return service + "-isthmus-" + strings.ToLower(string(family))
}

func familyOf(address netip.Addr) discoveryv1.AddressType {
	if address.Is6() {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

// keepSlice applies the EndpointSlice if it differs; false if the name is taken.
func (p *pass) keepSlice(ctx context.Context, wanted face) (bool, error) {
	name := sliceName(wanted.name, familyOf(wanted.address))
	if err := p.dropOtherFamily(ctx, wanted); err != nil {
		return false, err
	}
	slice := &discoveryv1.EndpointSlice{}
	err := p.Live.Get(ctx, types.NamespacedName{Namespace: p.object.Namespace, Name: name}, slice)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read EndpointSlice %s: %w", name, err)
	}
	exists := err == nil
	if exists && !p.owns(slice) {
		p.conflict("EndpointSlice", name)
		return false, nil
	}
	if exists && p.sameSlice(slice, wanted) {
		return true, nil
	}
	if err := p.Client.Apply(ctx, p.sliceConfiguration(name, wanted), applying...); err != nil {
		return false, fmt.Errorf("apply EndpointSlice %s: %w", name, err)
	}
	return true, nil
}

// dropOtherFamily removes the slice of the family that the address had before; of
// either family, if there is no address any more.
func (p *pass) dropOtherFamily(ctx context.Context, wanted face) error {
	before, err := netip.ParseAddr(lastAddress(p.object.Status.Endpoint))
	if err != nil || wanted.address.IsValid() && familyOf(before) == familyOf(wanted.address) {
		return nil
	}
	return p.remove(ctx, &discoveryv1.EndpointSlice{}, sliceName(wanted.name, familyOf(before)))
}

func sliceLabels(service string) map[string]string {
	return map[string]string{
		discoveryv1.LabelServiceName: service,
		discoveryv1.LabelManagedBy:   sliceManager,
		v1alpha1.ManagedByLabel:      v1alpha1.ManagedByValue,
	}
}

func (p *pass) sliceConfiguration(name string, wanted face) *discoveryapply.EndpointSliceApplyConfiguration {
	slice := discoveryapply.EndpointSlice(name, p.object.Namespace).
		WithLabels(sliceLabels(wanted.name)).
		WithOwnerReferences(p.reference()).
		WithAddressType(familyOf(wanted.address)).
		WithEndpoints(discoveryapply.Endpoint().WithAddresses(wanted.address.String()).
			WithConditions(discoveryapply.EndpointConditions().
				WithReady(wanted.ready).WithServing(wanted.ready).WithTerminating(false)))
	for _, port := range p.object.Spec.Ports {
		slice.WithPorts(discoveryapply.EndpointPort().WithName(port.Name).WithPort(target(port)).WithProtocol(protocol(port)))
	}
	return slice
}

func (p *pass) sameSlice(slice *discoveryv1.EndpointSlice, wanted face) bool {
	for label, value := range sliceLabels(wanted.name) {
		if slice.Labels[label] != value {
			return false
		}
	}
	if len(slice.Endpoints) != 1 || !slices.Equal(slice.Endpoints[0].Addresses, []string{wanted.address.String()}) {
		return false
	}
	conditions := slice.Endpoints[0].Conditions
	if !is(conditions.Ready, wanted.ready) || !is(conditions.Serving, wanted.ready) {
		return false
	}
	return slices.EqualFunc(p.object.Spec.Ports, slice.Ports, func(want v1alpha1.ServicePort, have discoveryv1.EndpointPort) bool {
		return is(have.Name, want.Name) && is(have.Port, target(want)) && is(have.Protocol, protocol(want))
	})
}

func is[T comparable](have *T, want T) bool { return have != nil && *have == want }

// unexpose removes the recorded face, unless it has the name that is wanted.
func (p *pass) unexpose(ctx context.Context, wanted string) error {
	endpoint := p.object.Status.Endpoint
	if endpoint == nil || endpoint.ServiceName == wanted {
		return nil
	}
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		if err := p.remove(ctx, &discoveryv1.EndpointSlice{}, sliceName(endpoint.ServiceName, family)); err != nil {
			return err
		}
	}
	if err := p.remove(ctx, &corev1.Service{}, endpoint.ServiceName); err != nil {
		return err
	}
	p.object.Status.Endpoint = nil
	return nil
}

// remove deletes an object if it is ours.
func (p *pass) remove(ctx context.Context, object client.Object, name string) error {
	err := p.Live.Get(ctx, types.NamespacedName{Namespace: p.object.Namespace, Name: name}, object)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %T %s: %w", object, name, err)
	}
	if !p.owns(object) {
		return nil
	}
	uid := object.GetUID()
	err = p.Client.Delete(ctx, object, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %T %s: %w", object, name, err)
	}
	return nil
}
