package wsman

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Class names a class of CIM objects.
type Class struct {
	Namespace string // such as root/cimv2
	Name      string
}

// Instance is an object, or what a query with a property list selects of one.
type Instance struct {
	Class      Class
	Projected  bool // of a query that names properties
	Properties []Property
}

// Property has a value that is nil for NULL, or a string, a bool, an integer, a
// time.Time, or a slice of strings or integers.
type Property struct {
	Name  string
	Value any
}

// Parameters are a method's arguments by name. A parameter that is NULL or was left
// out has no entry; one that is an array has several values.
type Parameters map[string][]string

// Repository is where CIM objects come from. Errors that are a *Fault are told to
// the client as they are.
type Repository interface {
	// Get finds the one instance that the selectors name.
	Get(ctx context.Context, class Class, selectors map[string]string) (Instance, error)
	// Enumerate returns all instances of a class.
	Enumerate(ctx context.Context, class Class) ([]Instance, error)
	// Query returns what a WQL query selects.
	Query(ctx context.Context, namespace, query string) ([]Instance, error)
	// Invoke calls a method and returns its output parameters and ReturnValue.
	Invoke(ctx context.Context, class Class, method string, selectors map[string]string, in Parameters) ([]Property, error)
}

// dispatchCIM performs the actions on CIM objects. The path is NAMESPACE/CLASS.
func (s *Server) dispatchCIM(ctx context.Context, request *envelope, path string) ([]byte, error) {
	path, _, _ = strings.Cut(path, "?")
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return nil, NotFound()
	}
	class := Class{Namespace: path[:slash], Name: path[slash+1:]}
	action := strings.TrimSpace(request.Header.Action)
	switch action {
	case actionGet:
		return s.get(ctx, request, class)
	case actionEnumerate:
		return s.enumerate(ctx, request, class)
	case actionPull:
		return s.pull(request)
	case actionRelease:
		return s.release(request)
	}
	if method, ok := strings.CutPrefix(action, strings.TrimSpace(request.Header.ResourceURI)+"/"); ok {
		return s.invoke(ctx, request, class, method)
	}
	return nil, UnknownMethod()
}

func (s *Server) get(ctx context.Context, request *envelope, class Class) ([]byte, error) {
	instance, err := s.options.Repository.Get(ctx, class, request.Header.selectors())
	if err != nil {
		return nil, err
	}
	a := newReply(actionGet+"Response", request.Header.MessageID)
	a.instance(instance, s.options.Zone)
	return a.end(), nil
}

func (s *Server) invoke(ctx context.Context, request *envelope, class Class, method string) ([]byte, error) {
	in := Parameters{}
	if input := request.content(method + "_INPUT"); input != nil {
		for _, p := range input.Children {
			if p.attr("nil") != "true" && p.attr("nil") != "1" {
				in[p.XMLName.Local] = append(in[p.XMLName.Local], p.value())
			}
		}
	} else if len(request.Body.Content) > 0 {
		return nil, invalidParameter()
	}
	out, err := s.options.Repository.Invoke(ctx, class, method, request.Header.selectors(), in)
	if err != nil {
		return nil, err
	}
	a := newReply(strings.TrimSpace(request.Header.Action)+"Response", request.Header.MessageID)
	a.WriteString("<p:" + method + "_OUTPUT" + instanceNamespaces(class) + ` xml:lang="en-US">`)
	a.properties("p:", "cim:", out, s.options.Zone)
	a.WriteString("</p:" + method + "_OUTPUT>")
	return a.end(), nil
}

// value is the text of a parameter. One of the type datetime has it in a child.
func (e *element) value() string {
	if len(e.Children) > 0 {
		return e.Children[0].text()
	}
	return e.Text
}

func instanceNamespaces(class Class) string {
	return ` xmlns:xsi="` + nsInstance + `" xmlns:p="` + resourceWMI + class.Namespace + "/" + class.Name + `" xmlns:cim="` + nsCIM + `"`
}

// instance writes an object as Windows does: whole ones under their class, selected
// properties in a fragment without namespaces.
func (r *reply) instance(i Instance, zone *time.Location) {
	if i.Projected {
		r.WriteString(`<w:XmlFragment xmlns:xsi="` + nsInstance + `">`)
		r.properties("", "", i.Properties, zone)
		r.WriteString("</w:XmlFragment>")
		return
	}
	r.WriteString("<p:" + i.Class.Name + instanceNamespaces(i.Class) + ` xsi:type="p:` + i.Class.Name + `_Type" xml:lang="en-US">`)
	r.properties("p:", "cim:", i.Properties, zone)
	r.WriteString("</p:" + i.Class.Name + ">")
}

func (r *reply) properties(prefix, cim string, properties []Property, zone *time.Location) {
	for _, p := range properties {
		name := prefix + p.Name
		switch v := p.Value.(type) {
		case nil:
			r.WriteString("<" + name + ` xsi:nil="true"/>`)
		case time.Time:
			r.WriteString("<" + name + "><" + cim + "Datetime>" + v.In(zone).Format("2006-01-02T15:04:05.999999Z07:00") +
				"</" + cim + "Datetime></" + name + ">")
		case []string:
			for _, one := range v {
				r.element(name, one)
			}
		case []uint32:
			for _, one := range v {
				r.element(name, strconv.FormatUint(uint64(one), 10))
			}
		default:
			r.element(name, fmt.Sprint(v))
		}
	}
}

func (s *Server) enumerate(ctx context.Context, request *envelope, class Class) ([]byte, error) {
	asked := request.content("Enumerate")
	if asked == nil {
		return nil, invalidParameter()
	}
	instances, err := s.find(ctx, asked.child("Filter"), class)
	if err != nil {
		return nil, err
	}
	var items [][]byte
	for _, instance := range instances {
		var item reply
		item.instance(instance, s.options.Zone)
		items = append(items, item.Bytes())
	}
	a := newReply(actionEnumerate+"Response", request.Header.MessageID)
	a.WriteString("<n:EnumerateResponse>")
	if asked.child("OptimizeEnumeration") == nil {
		a.element("n:EnumerationContext", s.contexts.keep(items))
	} else {
		first, rest := s.batch(request, asked, items)
		if len(rest) > 0 {
			a.element("n:EnumerationContext", s.contexts.keep(rest))
		} else {
			a.WriteString("<n:EnumerationContext/>")
		}
		a.WriteString("<w:Items>")
		a.Write(bytes.Join(first, nil))
		a.WriteString("</w:Items>")
		if len(rest) == 0 {
			a.WriteString("<w:EndOfSequence/>")
		}
	}
	a.WriteString("</n:EnumerateResponse>")
	return a.end(), nil
}

// find returns what an Enumerate is about: a class, or with a filter a query.
func (s *Server) find(ctx context.Context, filter *element, class Class) ([]Instance, error) {
	if filter == nil {
		return s.options.Repository.Enumerate(ctx, class)
	}
	if filter.attr("Dialect") != dialectWQL {
		return nil, &Fault{Code: CodeFilterDialect, Subcode: "n:FilterDialectRequestedUnavailable",
			Message: "The WS-Management service cannot process the request because the requested filter dialect is not supported. "}
	}
	if class.Name != "*" {
		return nil, &Fault{Code: CodeWQLNeedsStar, Subcode: "w:CannotProcessFilter", Provider: "WMI Provider",
			Message: "The WinRM client cannot process the request. The resource URI for an enumeration with a WQL query must have the class name \"*\". "}
	}
	return s.options.Repository.Query(ctx, class.Namespace, filter.text())
}

// batch takes from the front of items what an answer may hold, at least one.
func (s *Server) batch(request *envelope, asked *element, items [][]byte) (first, rest [][]byte) {
	most, err := strconv.Atoi(asked.child("MaxElements").text())
	if err != nil || most < 1 {
		most = 1
	}
	room := request.Header.maxEnvelope(s.limits.MaxEnvelopeSizeKB<<10) - 2048
	n := 0
	for n < len(items) && n < most && (n == 0 || len(items[n]) <= room) {
		room -= len(items[n])
		n++
	}
	return items[:n], items[n:]
}

func (s *Server) pull(request *envelope) ([]byte, error) {
	asked := request.content("Pull")
	items, ok := s.contexts.take(asked.child("EnumerationContext").text())
	if !ok {
		return nil, invalidContext()
	}
	first, rest := s.batch(request, asked, items)
	a := newReply(actionPull+"Response", request.Header.MessageID)
	a.WriteString("<n:PullResponse>")
	if len(rest) > 0 {
		a.element("n:EnumerationContext", s.contexts.keep(rest))
	}
	a.WriteString("<n:Items>")
	a.Write(bytes.Join(first, nil))
	a.WriteString("</n:Items>")
	if len(rest) == 0 {
		a.WriteString("<n:EndOfSequence/>")
	}
	a.WriteString("</n:PullResponse>")
	return a.end(), nil
}

func (s *Server) release(request *envelope) ([]byte, error) {
	if _, ok := s.contexts.take(request.content("Release").child("EnumerationContext").text()); !ok {
		return nil, invalidContext()
	}
	return newReply(actionRelease+"Response", request.Header.MessageID).end(), nil
}

func invalidContext() *Fault {
	return &Fault{Code: CodeInvalidContext, Subcode: "n:InvalidEnumerationContext",
		Message: "The WS-Management service cannot process the request because the enumeration context is not valid. "}
}
