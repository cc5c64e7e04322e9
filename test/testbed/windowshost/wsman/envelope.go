package wsman

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// envelope is a request.
type envelope struct {
	XMLName xml.Name `xml:"http://www.w3.org/2003/05/soap-envelope Envelope"`
	Header  header   `xml:"http://www.w3.org/2003/05/soap-envelope Header"`
	Body    body     `xml:"http://www.w3.org/2003/05/soap-envelope Body"`
}

// header holds the header blocks that the service understands, and the others.
type header struct {
	To               string     `xml:"http://schemas.xmlsoap.org/ws/2004/08/addressing To"`
	ReplyTo          replyTo    `xml:"http://schemas.xmlsoap.org/ws/2004/08/addressing ReplyTo"`
	Action           string     `xml:"http://schemas.xmlsoap.org/ws/2004/08/addressing Action"`
	MessageID        string     `xml:"http://schemas.xmlsoap.org/ws/2004/08/addressing MessageID"`
	ResourceURI      string     `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd ResourceURI"`
	MaxEnvelopeSize  string     `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd MaxEnvelopeSize"`
	OperationTimeout string     `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd OperationTimeout"`
	Locale           struct{}   `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd Locale"`
	DataLocale       struct{}   `xml:"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd DataLocale"`
	SessionID        struct{}   `xml:"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd SessionId"`
	OperationID      struct{}   `xml:"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd OperationID"`
	SequenceID       struct{}   `xml:"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd SequenceId"`
	Selectors        []selector `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd SelectorSet>Selector"`
	Options          []selector `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd OptionSet>Option"`
	Unknown          []unknown  `xml:",any"`
}

type replyTo struct {
	Address string `xml:"http://schemas.xmlsoap.org/ws/2004/08/addressing Address"`
}

// selector is a Selector or an Option: a name and a value.
type selector struct {
	Name  string `xml:"Name,attr"`
	Value string `xml:",chardata"`
}

// unknown is a header block that the service does not know.
type unknown struct {
	XMLName        xml.Name
	MustUnderstand string `xml:"http://www.w3.org/2003/05/soap-envelope mustUnderstand,attr"`
}

type body struct {
	Content []element `xml:",any"`
}

// element is any XML element.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []element  `xml:",any"`
	Text     string     `xml:",chardata"`
}

// child finds a child by its local name; nil if there is none.
func (e *element) child(local string) *element {
	if e == nil {
		return nil
	}
	for i := range e.Children {
		if e.Children[i].XMLName.Local == local {
			return &e.Children[i]
		}
	}
	return nil
}

// attr is an attribute by its local name, "" if it is not there.
func (e *element) attr(local string) string {
	if e == nil {
		return ""
	}
	for _, a := range e.Attrs {
		if a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

// text is the trimmed text of an element, "" for nil.
func (e *element) text() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(e.Text)
}

// content is the first element of a request's body with this local name; nil if the body is another.
func (e *envelope) content(local string) *element {
	if len(e.Body.Content) == 0 || e.Body.Content[0].XMLName.Local != local {
		return nil
	}
	return &e.Body.Content[0]
}

// selectors are the selectors by name.
func (h *header) selectors() map[string]string {
	set := map[string]string{}
	for _, s := range h.Selectors {
		set[s.Name] = s.Value
	}
	return set
}

func (h *header) option(name string) string {
	for _, o := range h.Options {
		if o.Name == name {
			return strings.TrimSpace(o.Value)
		}
	}
	return ""
}

// timeout is the time that the operation may take, within the limit of the service.
func (h *header) timeout(limit time.Duration) time.Duration {
	d, err := parseDuration(h.OperationTimeout)
	if err != nil || d <= 0 || d > limit {
		return limit
	}
	return d
}

// maxEnvelope is how large the answer may be, in bytes.
func (h *header) maxEnvelope(limit int) int {
	size, err := strconv.Atoi(strings.TrimSpace(h.MaxEnvelopeSize))
	if err != nil || size > limit {
		return limit
	}
	return size
}

// parseDuration reads an xs:duration of days, hours, minutes and seconds.
func parseDuration(text string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "P")
	if !ok {
		return 0, fmt.Errorf("duration %q does not begin with P", text)
	}
	days, clock, _ := strings.Cut(rest, "T")
	if days != "" {
		n, err := strconv.Atoi(strings.TrimSuffix(days, "D"))
		if err != nil {
			return 0, fmt.Errorf("duration %q: %w", text, err)
		}
		// time.ParseDuration adds up a unit that occurs twice.
		clock = strconv.Itoa(24*n) + "H" + clock
	}
	if clock == "" {
		return 0, fmt.Errorf("duration %q is empty", text)
	}
	d, err := time.ParseDuration(strings.ToLower(clock))
	if err != nil {
		return 0, fmt.Errorf("duration %q: %w", text, err)
	}
	return d, nil
}

// reply is the text of a SOAP envelope in the making.
type reply struct {
	bytes.Buffer
}

// newReply begins an answer as Windows does: all namespaces on the envelope.
func newReply(action, relatesTo string) *reply {
	r := &reply{}
	r.WriteString(`<s:Envelope xml:lang="en-US" xmlns:s="` + nsSOAP + `" xmlns:a="` + nsAddressing + `" xmlns:x="` + nsTransfer +
		`" xmlns:n="` + nsEnumeration + `" xmlns:w="` + nsManagement + `" xmlns:rsp="` + nsShell + `" xmlns:p="` + nsMicrosoft + `"><s:Header>`)
	r.element("a:Action", action)
	r.element("a:MessageID", "uuid:"+newID())
	r.element("a:To", anonymous)
	if relatesTo != "" {
		r.element("a:RelatesTo", relatesTo)
	}
	r.WriteString(`</s:Header><s:Body>`)
	return r
}

// element writes an element with a text and no attributes.
func (r *reply) element(name, text string) {
	r.WriteString("<" + name + ">")
	r.text(text)
	r.WriteString("</" + name + ">")
}

// text writes a text with what XML reserves escaped; what XML cannot hold is replaced.
func (r *reply) text(text string) {
	_ = xml.EscapeText(&r.Buffer, []byte(text)) // a buffer takes everything
}

// end is the finished envelope.
func (r *reply) end() []byte {
	r.WriteString(`</s:Body></s:Envelope>`)
	return r.Bytes()
}

// newID is a random UUID in the upper case that Windows writes.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	text := strings.ToUpper(hex.EncodeToString(b[:]))
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
