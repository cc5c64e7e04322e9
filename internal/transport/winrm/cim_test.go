package winrm

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const cim = "root/cimv2"

// A page with the class as the element, as SELECT * is answered.
const firstPage = `<n:EnumerateResponse><n:EnumerationContext>uuid:CD02E6BD</n:EnumerationContext><w:Items>` +
	`<p:Win32_Process xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_Process" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ` +
	`xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xsi:type="p:Win32_Process_Type">` +
	`<p:Caption>a &amp; b</p:Caption><p:CommandLine xsi:nil="true"/><p:Empty></p:Empty>` +
	`<p:CreationDate><cim:Datetime>2014-04-03T14:45:50.46875+08:00</cim:Datetime></p:CreationDate>` +
	`<p:IPAddress>192.168.1.103</p:IPAddress><p:IPAddress>fe80::1</p:IPAddress></p:Win32_Process></w:Items></n:EnumerateResponse>`

// A page with fragments, as a query with a list of properties is answered.
const lastPage = `<n:PullResponse><n:Items><w:XmlFragment xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` +
	`<CreationDate><Datetime>2013-04-09T15:42:20.4124Z</Datetime></CreationDate><Access xsi:nil="true"/><Name>System</Name></w:XmlFragment></n:Items>` +
	`<n:EndOfSequence/></n:PullResponse>`

func TestQueryReadsPagesOfBothShapes(t *testing.T) {
	wql := `SELECT * FROM Win32_Process WHERE Name='<&]]>"' OR Name='\\' OR Name='ä'`
	h := newFakeHost(t, Basic, func(r *asked) (int, string) {
		if r.action == "Enumerate" {
			if got := r.body.at("Enumerate", "Filter").value(); got != wql {
				t.Errorf("query %q arrived", got)
			}
			if got := r.body.at("Enumerate", "Filter").attr("Dialect"); got != dialectWQL {
				t.Errorf("dialect %q", got)
			}
			if r.body.at("Enumerate", "OptimizeEnumeration") == nil {
				t.Error("not optimised")
			}
			return http.StatusOK, reply(firstPage)
		}
		if got := r.body.at("Pull", "EnumerationContext").value(); got != "uuid:CD02E6BD" {
			t.Errorf("context %q", got)
		}
		return http.StatusOK, reply(lastPage)
	})
	instances, err := h.dial().Query(t.Context(), cim, wql)
	if err != nil {
		t.Fatal(err)
	}
	if len(instances) != 2 {
		t.Fatalf("%d instances", len(instances))
	}
	first, last := instances[0], instances[1]
	if first.String("Caption") != "a & b" || first.String("CreationDate") != "2014-04-03T14:45:50.46875+08:00" {
		t.Errorf("first: %v", first)
	}
	if values, found := first["CommandLine"]; !found || values != nil {
		t.Errorf("null value: %v %v", values, found)
	}
	if values, found := first["Empty"]; !found || len(values) != 1 || values[0] != "" {
		t.Errorf("empty value: %v %v", values, found)
	}
	if !slices.Equal(first["IPAddress"], []string{"192.168.1.103", "fe80::1"}) {
		t.Errorf("array: %v", first["IPAddress"])
	}
	if last.String("CreationDate") != "2013-04-09T15:42:20.4124Z" || last.String("Name") != "System" || last["Access"] != nil {
		t.Errorf("last: %v", last)
	}
}

func TestQueryWithoutEndEnds(t *testing.T) {
	h := newFakeHost(t, Basic, func(r *asked) (int, string) {
		return http.StatusOK, reply(`<n:PullResponse><n:EnumerationContext>again</n:EnumerationContext></n:PullResponse>`)
	})
	if _, err := h.dial().Query(t.Context(), cim, "SELECT Name FROM Win32_Service"); err == nil {
		t.Error("no error")
	}
}

func TestInvokeEscapesAndReadsOutput(t *testing.T) {
	value := "\"C:\\Program Files\\a.exe\" <x> & ]]> ' \t\r\n ü"
	h := newFakeHost(t, Basic, func(r *asked) (int, string) {
		input := r.body.child("Change_INPUT")
		if got := input.child("PathName"); got == nil || got.text != value {
			t.Errorf("parameter %+v arrived", got)
		}
		if len(input.children) != 3 {
			t.Errorf("%d parameters, want 3 (an array of two is two)", len(input.children))
		}
		if got := r.header.at("SelectorSet", "Selector"); got.attr("Name") != "Name" || got.text != "a<b" {
			t.Errorf("selector %+v", got)
		}
		return http.StatusOK, reply(`<p:Change_OUTPUT xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_Service"><p:ReturnValue>0</p:ReturnValue></p:Change_OUTPUT>`)
	})
	output, err := h.dial().Invoke(t.Context(), cim, "Win32_Service", map[string]string{"Name": "a<b"}, "Change",
		[]Param{{Name: "PathName", Values: []string{value}}, {Name: "ServiceDependencies", Values: []string{"a", "b"}}})
	if err != nil || output.String("ReturnValue") != "0" {
		t.Errorf("output %v, error %v", output, err)
	}
}

func TestGetReadsAnInstance(t *testing.T) {
	h := newFakeHost(t, Basic, func(r *asked) (int, string) {
		return http.StatusOK, reply(`<p:Win32_OperatingSystem xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_OperatingSystem"><p:Version>10.0.20348</p:Version></p:Win32_OperatingSystem>`)
	})
	instance, err := h.dial().Get(t.Context(), cim, "Win32_OperatingSystem", nil)
	if err != nil || instance.String("Version") != "10.0.20348" {
		t.Errorf("instance %v, error %v", instance, err)
	}
}

func TestNamesAndTextsThatCannotBeSent(t *testing.T) {
	h := newFakeHost(t, Basic, noAnswer)
	c := h.dial()
	calls := map[string]func() error{
		"namespace": func() error { _, err := c.Query(t.Context(), "root/../x", "SELECT"); return err },
		"query":     func() error { _, err := c.Query(t.Context(), cim, "a\x00b"); return err },
		"class":     func() error { _, err := c.Get(t.Context(), cim, "A B", nil); return err },
		"key":       func() error { _, err := c.Get(t.Context(), cim, "A", map[string]string{"K": "\x01"}); return err },
		"method":    func() error { _, err := c.Invoke(t.Context(), cim, "A", nil, "M><", nil); return err },
		"parameter": func() error {
			_, err := c.Invoke(t.Context(), cim, "A", nil, "M", []Param{{Name: "P", Values: []string{"\xff"}}})
			return err
		},
		"command": func() error { _, err := c.Run(t.Context(), Request{Command: "a\x1bb"}); return err },
	}
	for name, call := range calls {
		if err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := len(h.asked); n != 1 {
		t.Errorf("%d requests were sent, want only the first Identify", n)
	}
}

func TestFaultsAreTyped(t *testing.T) {
	for name, script := range map[string]func() (int, string){
		"with 500": func() (int, string) { return fault(5, "w:AccessDenied", "Zugriff verweigert") },
		"with 200": func() (int, string) {
			_, text := fault(5, "w:AccessDenied", "Zugriff verweigert")
			return http.StatusOK, text
		},
		"with 400": func() (int, string) {
			_, text := fault(5, "w:AccessDenied", "Zugriff verweigert")
			return http.StatusBadRequest, text
		},
	} {
		h := newFakeHost(t, Basic, func(*asked) (int, string) { return script() })
		_, err := h.dial().Query(t.Context(), cim, "SELECT Name FROM Win32_Service")
		var f *Fault
		if !errors.As(err, &f) || f.Code != 5 || f.Subcode != "w:AccessDenied" || f.Text != "Zugriff verweigert" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherAnswers(t *testing.T) {
	for status, want := range map[int]any{
		http.StatusRequestEntityTooLarge: new(*EnvelopeTooLargeError),
		http.StatusServiceUnavailable:    new(*HTTPError),
	} {
		h := newFakeHost(t, Basic, func(*asked) (int, string) { return status, "<html>" })
		_, err := h.dial().Query(t.Context(), cim, "SELECT Name FROM Win32_Service")
		if !errors.As(err, want) {
			t.Errorf("HTTP %d: %v", status, err)
		}
	}
	for name, text := range map[string]string{
		"no XML": "<a>", "no envelope": "<a/>", "deep": strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100), "empty": "",
	} {
		h := newFakeHost(t, Basic, func(*asked) (int, string) { return http.StatusOK, text })
		if _, err := h.dial().Query(t.Context(), cim, "SELECT Name FROM Win32_Service"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	h := newFakeHost(t, Basic, func(*asked) (int, string) { return http.StatusOK, reply(strings.Repeat(" ", maxReply)) })
	_, err := h.dial().Query(t.Context(), cim, "SELECT Name FROM Win32_Service")
	var lost *transport.LostError
	if !errors.As(err, &lost) {
		t.Errorf("error %v, want a LostError", err)
	}
}

func TestAtMostTwoConnections(t *testing.T) {
	for _, mode := range []string{NTLM, Basic} {
		h := newFakeHost(t, mode, func(*asked) (int, string) { return http.StatusOK, reply(lastPage) })
		c := h.dial()
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				if _, err := c.Query(t.Context(), cim, "SELECT Name FROM Win32_Service"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if h.connections > maxLanes || h.most > maxLanes {
			t.Errorf("%s: %d connections, %d requests at once", mode, h.connections, h.most)
		}
		if mode == NTLM && h.loginCount() != h.connections {
			t.Errorf("%d logins for %d connections", h.loginCount(), h.connections)
		}
	}
}

func TestConnectionClosedAtRestIsReplaced(t *testing.T) {
	h := newFakeHost(t, NTLM, func(*asked) (int, string) { return http.StatusOK, reply(lastPage) })
	c := h.dial()
	h.server.CloseClientConnections()
	c.mu.Lock()
	for _, l := range c.idleLanes {
		l.rested = l.rested.Add(-2 * peekAfter)
	}
	c.mu.Unlock()
	if _, err := c.Query(t.Context(), cim, "SELECT Name FROM Win32_Service"); err != nil {
		t.Fatal(err)
	}
	if h.connections != 2 {
		t.Errorf("%d connections, want 2", h.connections)
	}
}

func TestLostRequestIsNotRepeated(t *testing.T) {
	h := newFakeHost(t, Basic, func(r *asked) (int, string) { panic(http.ErrAbortHandler) })
	_, err := h.dial().Invoke(t.Context(), cim, "Win32_Service", map[string]string{"Name": "a"}, "StopService", nil)
	var lost *transport.LostError
	if !errors.As(err, &lost) {
		t.Errorf("error %v, want a LostError", err)
	}
	if n := h.count("StopService"); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func FuzzParseBody(f *testing.F) {
	f.Add([]byte(reply(firstPage)))
	_, text := fault(170, "w:InternalError", "busy")
	f.Add([]byte(text))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := parseBody(data)
		if err != nil {
			return
		}
		parseFault(body)
		for _, item := range firstOf(body, "EnumerateResponse", "PullResponse").items() {
			instance(item)
		}
		newOutput(Request{}).take(body.child("ReceiveResponse"), "X")
	})
}

// What a host sends costs time in proportion to its size, however it is divided:
// nothing interrupts the reading of an answer that has come.
func TestDividedAnswersAreReadAtOnce(t *testing.T) {
	for _, piece := range []string{"a<!---->", "a<?b?>", "<a>b</a>"} {
		began := time.Now()
		body, err := parseBody([]byte(reply("<x>" + strings.Repeat(piece, maxReply/4/len(piece)) + "</x>")))
		if err != nil {
			t.Fatal(err)
		}
		text := body.children[0].deepValue()
		if len(text) != maxReply/4/len(piece) || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %d characters after %v", piece, len(text), time.Since(began))
		}
	}
}

// A host that fills each of its pages is not followed to the last of them.
func TestInstancesAreBounded(t *testing.T) {
	page := `<n:PullResponse><n:EnumerationContext>1</n:EnumerationContext><n:Items>` +
		strings.Repeat("<w:XmlFragment><Name>orders</Name></w:XmlFragment>", maxReply/64) + `</n:Items></n:PullResponse>`
	h := newFakeHost(t, Basic, func(*asked) (int, string) { return http.StatusOK, reply(page) })
	_, err := h.dial().Query(t.Context(), cim, "SELECT Name FROM Win32_Service")
	if err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("error %v", err)
	}
	if n := h.count("Pull"); n > maxInstances/maxReply {
		t.Errorf("%d pages were taken", n)
	}
}
