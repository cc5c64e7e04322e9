package winrm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The names of the protocols, as in DSP0226, DSP0227 and MS-WSMV.
const (
	nsSOAP        = "http://www.w3.org/2003/05/soap-envelope"
	nsAddressing  = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
	nsWSMan       = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
	nsMicrosoft   = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
	nsEnumeration = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
	nsTransfer    = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
	nsShell       = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	nsWMI         = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
	nsInstance    = "http://www.w3.org/2001/XMLSchema-instance"
	anonymous     = nsAddressing + "/role/anonymous"
	dialectWQL    = "http://schemas.microsoft.com/wbem/wsman/1/WQL"

	// maxEnvelope is what every version of Windows accepts (MaxEnvelopeSizekb is
	// 150 on the oldest), for requests as well as for the answers that we ask for.
	maxEnvelope = 153600
)

// identifyEnvelope needs no header (DSP0226, section 11).
const identifyEnvelope = `<s:Envelope xmlns:s="` + nsSOAP + `" xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">` +
	`<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>`

// message is a request before it is written down.
type message struct {
	action, resource string
	selectors        map[string]string
	options          map[string]string
	timeout          time.Duration
	body             any // marshalled as the only child of the Body; nil: an empty Body
}

// The envelope's types carry their prefixes in their names: encoding/xml would
// otherwise declare the namespace anew on each element.
type envelope struct {
	XMLName     xml.Name `xml:"s:Envelope"`
	SOAP        string   `xml:"xmlns:s,attr"`
	Addressing  string   `xml:"xmlns:a,attr"`
	WSMan       string   `xml:"xmlns:w,attr"`
	Microsoft   string   `xml:"xmlns:p,attr"`
	Shell       string   `xml:"xmlns:rsp,attr"`
	Enumeration string   `xml:"xmlns:n,attr"`
	Header      header   `xml:"s:Header"`
	Body        body     `xml:"s:Body"`
}

type body struct {
	Content any
}

type header struct {
	To        string      `xml:"a:To"`
	Resource  required    `xml:"w:ResourceURI"`
	ReplyTo   replyTo     `xml:"a:ReplyTo"`
	Action    required    `xml:"a:Action"`
	Size      required    `xml:"w:MaxEnvelopeSize"`
	MessageID string      `xml:"a:MessageID"`
	Locale    locale      `xml:"w:Locale"`
	Data      locale      `xml:"p:DataLocale"`
	Session   optional    `xml:"p:SessionId"`
	Timeout   string      `xml:"w:OperationTimeout"`
	Selectors *selectors  `xml:"w:SelectorSet"`
	Options   *optionList `xml:"w:OptionSet"`
}

type required struct {
	Must  string `xml:"s:mustUnderstand,attr"`
	Value string `xml:",chardata"`
}

type optional struct {
	Must  string `xml:"s:mustUnderstand,attr"`
	Value string `xml:",chardata"`
}

type replyTo struct {
	Address required `xml:"a:Address"`
}

type locale struct {
	Lang string `xml:"xml:lang,attr"`
	Must string `xml:"s:mustUnderstand,attr"`
}

type selectors struct {
	Items []named `xml:"w:Selector"`
}

type optionList struct {
	Must  string  `xml:"s:mustUnderstand,attr"`
	Items []named `xml:"w:Option"`
}

type named struct {
	Name  string `xml:"Name,attr"`
	Value string `xml:",chardata"`
}

// marshal writes a message as a SOAP envelope. The language is fixed, so that
// texts for people come in one language; nothing is ever decided by them.
func (c *Client) marshal(m message) ([]byte, error) {
	timeout := m.timeout
	if timeout == 0 {
		timeout = c.config.OperationTimeout
	}
	e := envelope{
		SOAP: nsSOAP, Addressing: nsAddressing, WSMan: nsWSMan, Microsoft: nsMicrosoft, Shell: nsShell, Enumeration: nsEnumeration,
		Header: header{
			To:        c.url,
			Resource:  must(m.resource),
			ReplyTo:   replyTo{Address: must(anonymous)},
			Action:    must(m.action),
			Size:      must(fmt.Sprint(maxEnvelope)),
			MessageID: "uuid:" + newID(),
			Locale:    locale{Lang: "en-US", Must: "false"},
			Data:      locale{Lang: "en-US", Must: "false"},
			Session:   optional{Must: "false", Value: c.session},
			Timeout:   fmt.Sprintf("PT%.3fS", timeout.Seconds()),
		},
		Body: body{Content: m.body},
	}
	if len(m.selectors) > 0 {
		e.Header.Selectors = &selectors{Items: namedValues(m.selectors)}
	}
	if len(m.options) > 0 {
		e.Header.Options = &optionList{Must: "true", Items: namedValues(m.options)}
	}
	data, err := xml.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", m.action, err)
	}
	return data, nil
}

func must(value string) required { return required{Must: "true", Value: value} }

func namedValues(values map[string]string) []named {
	list := make([]named, 0, len(values))
	for name, value := range values {
		list = append(list, named{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b named) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// errNotXML says that a text cannot be carried. It does not show the text.
var errNotXML = errors.New("the text contains a character that XML cannot carry")

// carriable refuses what encoding/xml would silently replace by U+FFFD: a
// command or a value must arrive as it was meant or not at all.
func carriable(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, notXML) {
			return errNotXML
		}
	}
	return nil
}

// notXML is the complement of Char in XML 1.0, section 2.2.
func notXML(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r':
		return false
	case r < 0x20, r == 0xFFFE, r == 0xFFFF:
		return true
	default:
		return false
	}
}
