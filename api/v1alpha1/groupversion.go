package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of all kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "isthmus.dev", Version: "v1alpha1"}

var builder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme registers the kinds of this package.
var AddToScheme = builder.AddToScheme

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&Host{}, &HostList{},
		&ExternalService{}, &ExternalServiceList{},
		&HybridApplication{}, &HybridApplicationList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
