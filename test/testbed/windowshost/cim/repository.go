package cim

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wql"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// Machine is what the classes are about.
type Machine interface {
	// Provider touches services, processes and the registry.
	Provider() *wine.Provider
	// Path is the Linux path of a file on drive C:.
	Path(windows string) (string, error)
}

// Repository holds the classes.
type Repository struct {
	machine Machine
	name    string
	journal *Journal
	classes map[string]*class
	booted  func() time.Time
}

// object is the properties of an instance by name; a value is one that
// wsman.Property can have.
type object map[string]any

// class is how a class is served.
type class struct {
	name       string
	namespaces []string
	keys       []string // none for a singleton and for a class without instances
	// find returns the instances that a query may select; nil for a class without instances.
	find    func(ctx context.Context, query *wql.Query) ([]object, error)
	methods map[string]method
}

// method is called with the instance that the selectors name, nil if the class is
// meant, and returns output parameters with ReturnValue among them.
type method func(ctx context.Context, on object, in wsman.Parameters) (object, error)

// NewRepository serves the classes of a machine. Booted returns when it was last started.
func NewRepository(machine Machine, name string, booted func() time.Time) *Repository {
	r := &Repository{machine: machine, name: name, journal: &Journal{machine: machine}, classes: map[string]*class{}, booted: booted}
	for _, c := range []*class{r.serviceClass(), r.processClass(), r.operatingSystemClass(), r.computerSystemClass(),
		r.fileClass(), r.directoryClass(), r.registryClass()} {
		r.classes[strings.ToLower(c.name)] = c
	}
	return r
}

// Journal is the journal of effects.
func (r *Repository) Journal() *Journal { return r.journal }

// class finds a class in a namespace.
func (r *Repository) class(name wsman.Class) (*class, error) {
	if c := r.classes[strings.ToLower(name.Name)]; c != nil {
		for _, namespace := range c.namespaces {
			if strings.EqualFold(strings.ReplaceAll(name.Namespace, `\`, "/"), namespace) {
				return c, nil
			}
		}
	}
	return nil, wsman.NotFound()
}

// instance makes an object ready to be sent; of a projection only the named properties.
func (c *class) instance(namespace string, o object, properties []string) (wsman.Instance, error) {
	i := wsman.Instance{Class: wsman.Class{Namespace: namespace, Name: c.name}, Projected: properties != nil}
	if properties == nil {
		i.Properties = sorted(o)
		return i, nil
	}
	for _, asked := range properties {
		name, ok := o.property(asked)
		if !ok {
			return wsman.Instance{}, wsman.InvalidQuery("the class " + c.name + " has no property " + asked)
		}
		i.Properties = append(i.Properties, wsman.Property{Name: name, Value: o[name]})
	}
	return i, nil
}

// property finds a property's name in its own spelling.
func (o object) property(name string) (string, bool) {
	if _, ok := o[name]; ok {
		return name, true
	}
	for own := range o {
		if strings.EqualFold(own, name) {
			return own, true
		}
	}
	return "", false
}

// value returns a property by a name of any case.
func (o object) value(name string) any {
	own, _ := o.property(name)
	return o[own]
}

// sorted lists properties by name without regard to case, as WMI does.
func sorted(o object) []wsman.Property {
	properties := make([]wsman.Property, 0, len(o))
	for name, value := range o {
		properties = append(properties, wsman.Property{Name: name, Value: value})
	}
	sort.Slice(properties, func(i, j int) bool {
		return strings.ToLower(properties[i].Name) < strings.ToLower(properties[j].Name)
	})
	return properties
}

// Get finds the instance that the selectors name.
func (r *Repository) Get(ctx context.Context, name wsman.Class, selectors map[string]string) (wsman.Instance, error) {
	c, err := r.class(name)
	if err != nil {
		return wsman.Instance{}, err
	}
	o, err := c.get(ctx, selectors)
	if err != nil {
		return wsman.Instance{}, err
	}
	return c.instance(name.Namespace, o, nil)
}

// get finds an object by its keys.
func (c *class) get(ctx context.Context, selectors map[string]string) (object, error) {
	if c.find == nil {
		return nil, wsman.NotFound()
	}
	query := "SELECT * FROM " + c.name
	given := object{}
	for name, value := range selectors {
		if !strings.EqualFold(name, "__cimnamespace") {
			given[name] = value
		}
	}
	for i, key := range c.keys {
		value, ok := given.value(key).(string)
		if !ok {
			return nil, wsman.NotASingleton()
		}
		query += []string{" WHERE ", " AND "}[min(i, 1)] + key + " = '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
	}
	if len(given) > len(c.keys) {
		return nil, wsman.InvalidSelectors()
	}
	objects, err := c.query(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, wsman.NotFound()
	}
	return objects[0], nil
}

// query returns the objects that a query of this class selects.
func (c *class) query(ctx context.Context, text string) ([]object, error) {
	query, err := wql.Parse(text)
	if err != nil {
		return nil, wsman.InvalidQuery(err.Error())
	}
	return c.selectFrom(ctx, query)
}

func (c *class) selectFrom(ctx context.Context, query *wql.Query) ([]object, error) {
	all, err := c.find(ctx, query)
	if err != nil {
		return nil, err
	}
	var selected []object
	for _, o := range all {
		if query.Matches(o.value) {
			selected = append(selected, o)
		}
	}
	return selected, nil
}

// Enumerate returns all instances of a class.
func (r *Repository) Enumerate(ctx context.Context, name wsman.Class) ([]wsman.Instance, error) {
	return r.Query(ctx, name.Namespace, "SELECT * FROM "+name.Name)
}

// Query returns what a WQL query selects.
func (r *Repository) Query(ctx context.Context, namespace, text string) ([]wsman.Instance, error) {
	query, err := wql.Parse(text)
	if err != nil {
		return nil, wsman.InvalidQuery(err.Error())
	}
	c, err := r.class(wsman.Class{Namespace: namespace, Name: query.Class})
	if err != nil {
		return nil, err
	}
	if c.find == nil {
		return nil, wsman.NotFound()
	}
	objects, err := c.selectFrom(ctx, query)
	if err != nil {
		return nil, err
	}
	var instances []wsman.Instance
	for _, o := range objects {
		instance, err := c.instance(namespace, o, query.Properties)
		if err != nil {
			return nil, err
		}
		instances = append(instances, instance)
	}
	return instances, nil
}

// Invoke calls a method.
func (r *Repository) Invoke(ctx context.Context, name wsman.Class, method string, selectors map[string]string, in wsman.Parameters) ([]wsman.Property, error) {
	c, err := r.class(name)
	if err != nil {
		return nil, err
	}
	call := c.methods[strings.ToLower(method)]
	if call == nil {
		return nil, wsman.UnknownMethod()
	}
	var on object
	if len(selectors) > 0 && c.find != nil {
		if on, err = c.get(ctx, selectors); err != nil {
			return nil, err
		}
	}
	out, err := call(ctx, on, in)
	if err != nil {
		return nil, err
	}
	return sorted(out), nil
}

// onInstance is a method that makes no sense without an instance.
func onInstance(call method) method {
	return func(ctx context.Context, on object, in wsman.Parameters) (object, error) {
		if on == nil {
			return nil, wsman.NotASingleton()
		}
		return call(ctx, on, in)
	}
}

// returned is the output of a method that has nothing but a result.
func returned(value uint32) object { return object{"ReturnValue": value} }

// call asks the provider; a Win32 code comes back as such.
func (r *Repository) call(ctx context.Context, verb string, words ...string) (wine.Answer, error) {
	answer, err := r.machine.Provider().Call(ctx, verb, words...)
	if err != nil {
		return answer, fmt.Errorf("provider: %w", err)
	}
	return answer, nil
}

// one is a parameter with a single value; nil, or a default, where it is absent.
func one(in wsman.Parameters, name, missing string) string {
	if values := in[name]; len(values) > 0 {
		return values[0]
	}
	return missing
}

// orNull is a word of the provider as a property's value.
func orNull(word string) any {
	if word == wine.Absent {
		return nil
	}
	return word
}
