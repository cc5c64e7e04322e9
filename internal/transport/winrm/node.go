package winrm

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds the nesting of an answer; real ones stay below ten.
const maxDepth = 64

// node is an element of an answer. Names are compared without their namespace:
// the answers' vocabularies do not overlap, and two namespaces are in use for
// one thing (w: and n: for the end of an enumeration).
type node struct {
	name     string
	attrs    []xml.Attr
	text     string // of all its pieces, when the element has ended
	pieces   []byte
	children []*node
}

// parseBody gives the Body of a SOAP envelope.
func parseBody(data []byte) (*node, error) {
	root, err := parseNode(data)
	if err != nil {
		return nil, fmt.Errorf("the answer is not XML: %w", err)
	}
	body := root.child("Body")
	if root.name != "Envelope" || body == nil {
		return nil, errors.New("the answer is not a SOAP envelope")
	}
	return body, nil
}

func parseNode(data []byte) (*node, error) {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	top := &node{}
	path := []*node{top}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		current := path[len(path)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if len(path) > maxDepth {
				return nil, errors.New("nested too deeply")
			}
			child := &node{name: t.Name.Local, attrs: t.Copy().Attr}
			current.children = append(current.children, child)
			path = append(path, child)
		case xml.EndElement:
			current.text, current.pieces = string(current.pieces), nil
			path = path[:len(path)-1]
		case xml.CharData:
			// Comments divide a text into any number of pieces, so they are not put together one by one.
			current.pieces = append(current.pieces, t...)
		}
	}
	if len(top.children) != 1 {
		return nil, errors.New("no element")
	}
	return top.children[0], nil
}

// child is the first child with a name, or nil; on nil it is nil.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	for _, child := range n.children {
		if child.name == name {
			return child
		}
	}
	return nil
}

// at follows child names; nil when one is missing.
func (n *node) at(names ...string) *node {
	for _, name := range names {
		n = n.child(name)
	}
	return n
}

// value is the text of an element, without the space around it; empty for nil.
func (n *node) value() string {
	if n == nil {
		return ""
	}
	return strings.TrimSpace(n.text)
}

// deep is the text of an element or of what is nested in it.
func (n *node) deep() string {
	var text strings.Builder
	n.gather(&text)
	return text.String()
}

func (n *node) gather(text *strings.Builder) {
	text.WriteString(n.text)
	for _, child := range n.children {
		child.gather(text)
	}
}

func (n *node) attr(name string) string {
	if n == nil {
		return ""
	}
	for _, attr := range n.attrs {
		if attr.Name.Local == name && attr.Name.Space != nsInstance {
			return attr.Value
		}
	}
	return ""
}

// isNil tells a null value (xsi:nil) from an empty one.
func (n *node) isNil() bool {
	for _, attr := range n.attrs {
		if attr.Name.Space == nsInstance && attr.Name.Local == "nil" {
			return attr.Value == "true" || attr.Value == "1"
		}
	}
	return false
}
