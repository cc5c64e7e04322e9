package winrm

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// pageSize is how many instances are asked for at once; the size of an
// envelope bounds a page as well.
const pageSize = 512

// maxPages bounds an enumeration whose end the host never announces.
const maxPages = 1024

// maxInstances bounds what a query's instances take of the memory, about: a host
// may fill each of its pages.
const maxInstances = 32 << 20

// Instance is a CIM instance or the output parameters of a method: the values
// of each property, several for an array, nil for a null value. Dates are as
// the host sends them (xs:dateTime with the host's offset).
type Instance map[string][]string

// String is the value of a property, empty when it is null, missing or an array.
func (i Instance) String(property string) string {
	if values := i[property]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// Param is an input parameter of a method. Several values make an array.
type Param struct {
	Name   string
	Values []string
}

// cimName is what CIM calls a class, a method, a property or a namespace (with slashes).
var cimName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$`)

func checkNames(names ...string) error {
	for _, name := range names {
		if !cimName.MatchString(name) {
			return fmt.Errorf("%q is not a name in CIM", name)
		}
	}
	return nil
}

type enumerate struct {
	XMLName  xml.Name `xml:"n:Enumerate"`
	Optimize struct{} `xml:"w:OptimizeEnumeration"`
	Max      int      `xml:"w:MaxElements"`
	Filter   filter   `xml:"w:Filter"`
}

type filter struct {
	Dialect string `xml:"Dialect,attr"`
	Query   string `xml:",chardata"`
}

type pull struct {
	XMLName xml.Name `xml:"n:Pull"`
	Context string   `xml:"n:EnumerationContext"`
	Max     int      `xml:"n:MaxElements"`
}

// Query enumerates the instances that a WQL query selects. The namespace is
// such as "root/cimv2".
func (c *Client) Query(ctx context.Context, namespace, wql string) ([]Instance, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := errors.Join(checkNames(namespace), carriable(wql)); err != nil {
		return nil, fmt.Errorf("query %s: %w", namespace, err)
	}
	resource := nsWMI + namespace + "/*"
	m := message{action: nsEnumeration + "/Enumerate", resource: resource}
	m.body = enumerate{Max: pageSize, Filter: filter{Dialect: dialectWQL, Query: wql}}
	body, err := c.send(ctx, "query "+namespace, m)
	var instances []Instance
	next, weight := "", 0
	for page := 0; ; page++ {
		if err == nil {
			err = tooMuch(page, weight)
		}
		if err != nil {
			c.releaseEnumeration(resource, next)
			return nil, fmt.Errorf("query %s: %w", namespace, err)
		}
		answer := firstOf(body, "EnumerateResponse", "PullResponse")
		for _, item := range answer.items() {
			found := instance(item)
			instances, weight = append(instances, found), weight+found.weight()
		}
		next = answer.child("EnumerationContext").value()
		if answer == nil || answer.child("EndOfSequence") != nil || next == "" {
			return instances, nil
		}
		m = message{action: nsEnumeration + "/Pull", resource: resource, body: pull{Context: next, Max: pageSize}}
		body, err = c.send(ctx, "query "+namespace, m)
	}
}

func tooMuch(pages, weight int) error {
	switch {
	case pages == maxPages:
		return fmt.Errorf("no end after %d pages", maxPages)
	case weight > maxInstances:
		return fmt.Errorf("the instances are larger than %d MiB", maxInstances>>20)
	}
	return nil
}

// weight is what an instance takes of the memory, about.
func (i Instance) weight() int {
	const each = 64 // a map, a slice or a string before its content
	total := each
	for name, values := range i {
		total += each + len(name)
		for _, value := range values {
			total += each + len(value)
		}
	}
	return total
}

type releaseBody struct {
	XMLName xml.Name `xml:"n:Release"`
	Context string   `xml:"n:EnumerationContext"`
}

// releaseEnumeration gives back an enumeration that is not read to its end, in
// the background: the host keeps it otherwise until it expires.
func (c *Client) releaseEnumeration(resource, id string) {
	if id == "" {
		return
	}
	c.inBackground(func(ctx context.Context) {
		_ = c.insist(ctx, "release an enumeration", message{action: nsEnumeration + "/Release", resource: resource, body: releaseBody{Context: id}})
	})
}

func firstOf(body *node, names ...string) *node {
	for _, name := range names {
		if found := body.child(name); found != nil {
			return found
		}
	}
	return nil
}

func (n *node) items() []*node {
	if items := n.child("Items"); items != nil {
		return items.children
	}
	return nil
}

// instance reads the properties of an element: one named after its class, or
// the XmlFragment that a query with a list of properties is answered with.
func instance(n *node) Instance {
	result := Instance{}
	for _, property := range n.children {
		if property.isNil() {
			result[property.name] = nil
			continue
		}
		result[property.name] = append(result[property.name], property.deepValue())
	}
	return result
}

// deepValue is the text as it is, or what is wrapped in the element
// (cim:Datetime, an endpoint reference) without the space between.
func (n *node) deepValue() string {
	if len(n.children) == 0 {
		return n.text
	}
	return strings.TrimSpace(n.deep())
}

// Get reads one instance of a class by its keys.
func (c *Client) Get(ctx context.Context, namespace, class string, keys map[string]string) (Instance, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	doing := "get " + class
	if err := errors.Join(checkNames(namespace, class), checkKeys(keys)); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	body, err := c.send(ctx, doing, message{action: nsTransfer + "/Get", resource: nsWMI + namespace + "/" + class, selectors: keys})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if len(body.children) != 1 {
		return nil, fmt.Errorf("%s: the answer holds no instance", doing)
	}
	return instance(body.children[0]), nil
}

func checkKeys(keys map[string]string) error {
	for name, value := range keys {
		if err := errors.Join(checkNames(name), carriable(value)); err != nil {
			return err
		}
	}
	return nil
}

// Invoke calls a method: of the instance that the keys name, or of the class
// when there are none. It gives the output parameters, ReturnValue among them.
// After a LostError it is unknown whether the method was carried out.
func (c *Client) Invoke(ctx context.Context, namespace, class string, keys map[string]string, method string, params []Param) (Instance, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	doing := "call " + class + "." + method
	resource := nsWMI + namespace + "/" + class
	input, err := newInput(resource, method, params)
	if err := errors.Join(err, checkNames(namespace, class), checkKeys(keys)); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	body, err := c.send(ctx, doing, message{action: resource + "/" + method, resource: resource, selectors: keys, body: input})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	output := body.child(method + "_OUTPUT")
	if output == nil {
		return nil, fmt.Errorf("%s: the answer holds no output", doing)
	}
	return instance(output), nil
}

// input is the METHOD_INPUT element. encoding/xml escapes the values.
type input struct {
	XMLName xml.Name
	NS      string `xml:"xmlns:m,attr"`
	Params  []parameter
}

type parameter struct {
	XMLName xml.Name
	Value   string `xml:",chardata"`
}

func newInput(resource, method string, params []Param) (input, error) {
	in := input{XMLName: xml.Name{Local: "m:" + method + "_INPUT"}, NS: resource}
	if err := checkNames(method); err != nil {
		return in, err
	}
	for _, param := range params {
		if err := errors.Join(checkNames(param.Name), carriable(param.Values...)); err != nil {
			return in, fmt.Errorf("parameter %s: %w", param.Name, err)
		}
		for _, value := range param.Values {
			in.Params = append(in.Params, parameter{XMLName: xml.Name{Local: "m:" + param.Name}, Value: value})
		}
	}
	return in, nil
}
