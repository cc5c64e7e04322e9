package windowshost

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/cim"
)

func processes(t *testing.T, h *Host) {
	c := newClient(t, h)
	result, answer := c.invoke("Win32_Process", "Create", "", "CommandLine", `cmd.exe /c "for /l %i in () do @rem"`, "CurrentDirectory", `C:\Windows`)
	if result != "0" {
		t.Fatal(answer)
	}
	pid := property(t, "ProcessId", answer)
	found := c.query("SELECT * FROM Win32_Process WHERE ProcessId = " + pid)
	if got := property(t, "CommandLine", found); got != "cmd.exe /c &#34;for /l %i in () do @rem&#34;" {
		t.Errorf("command line %q", got)
	}
	if result, _ := c.invoke("Win32_Process", "Terminate", selectors("Handle", pid)); result != "0" {
		t.Errorf("Terminate returned %s", result)
	}
	await(t, "the process to end", func() bool {
		return !strings.Contains(c.query("SELECT * FROM Win32_Process WHERE ProcessId = "+pid), "<p:Win32_Process ")
	})
	if result, answer := c.invoke("Win32_Process", "Create", "", "CommandLine", `nowhere.exe`); result != "9" || !strings.Contains(answer, `<p:ProcessId xsi:nil="true"/>`) {
		t.Errorf("a program that is not there: %s", answer)
	}
	events, err := h.Journal()
	if last := events[len(events)-1]; err != nil || last.Source != cim.FromCIM || last.Verb != cim.CreateProcess || !strings.HasPrefix(last.Name, "cmd.exe /c") {
		t.Errorf("journal: %+v, %v", last, err)
	}
}

func files(t *testing.T, h *Host) {
	c := newClient(t, h)
	path, err := h.Path(`C:\Data Files\Readme.TXT`)
	if err != nil {
		t.Fatal(err)
	}
	modified := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("hello"), 0o644), os.Chtimes(path, modified, modified)); err != nil {
		t.Fatal(err)
	}
	found := c.query(`SELECT Name,FileSize,LastModified,Drive,Path,FileName,Extension FROM CIM_DataFile WHERE Name='c:\\DATA files\\readme.txt' OR Name='C:\\nowhere'`)
	want := `<w:XmlFragment xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Name>c:\data files\readme.txt</Name><FileSize>5</FileSize>` +
		`<LastModified><Datetime>2026-01-02T03:04:05.6789Z</Datetime></LastModified><Drive>c:</Drive><Path>\data files\</Path><FileName>readme</FileName><Extension>txt</Extension></w:XmlFragment>`
	if !strings.Contains(found, want) || strings.Count(found, "<w:XmlFragment") != 1 {
		t.Errorf("%s\nis not in\n%s", want, found)
	}
	if found := c.query(`SELECT Name FROM CIM_DataFile WHERE Drive='C:' AND Path='\\Data Files\\'`); strings.Count(found, "<w:XmlFragment") != 1 {
		t.Error(found)
	}
	if found := c.query(`SELECT * FROM Win32_Directory WHERE Name='C:\\Data Files'`); strings.Count(found, "</p:Win32_Directory>") != 1 {
		t.Error(found)
	}
	if result, _ := c.invoke("CIM_DataFile", "Rename", selectors("Name", `C:\Data Files\Readme.TXT`), "FileName", `C:\Data Files\New.txt`); result != "0" {
		t.Errorf("Rename returned %s", result)
	}
	if result, _ := c.invoke("CIM_DataFile", "Delete", selectors("Name", `C:\Data Files\New.txt`)); result != "0" {
		t.Errorf("Delete returned %s", result)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if result, _ := c.invoke("CIM_DataFile", "Delete", selectors("Name", `C:\windows\system32\services.exe`)); result != "2" {
		t.Errorf("Delete of a running program returned %s", result)
	}
	c.fault("2150858752", transfer+"Get", cimv2+"CIM_DataFile", selectors("Name", `C:\..\..\etc\passwd`), "")
}

func registry(t *testing.T, h *Host) {
	c := newClient(t, h)
	key := []string{"hDefKey", "2147483650", "sSubKeyName", `SOFTWARE\Isthmus Test`}
	expect := func(want, method, shape string, parameters ...string) {
		t.Helper()
		result, answer := c.invoke("StdRegProv", method, "", append(append([]string{}, key...), parameters...)...)
		if result != want || !strings.Contains(answer, shape) {
			t.Errorf("%s returned %s, want %s and %s\n%s", method, result, want, shape, answer)
		}
	}
	expect("2", "GetStringValue", `<p:sValue xsi:nil="true"/>`, "sValueName", "text")
	expect("0", "CreateKey", `<p:CreateKey_OUTPUT xmlns:xsi=`)
	expect("0", "SetStringValue", "", "sValueName", "text", "sValue", "Grüße & <more>")
	expect("0", "GetStringValue", "<p:sValue>Grüße &amp; &lt;more&gt;</p:sValue>", "sValueName", "text")
	expect("0", "SetMultiStringValue", "", "sValueName", "list", "sValue", "a=1", "sValue", "b c=2")
	expect("0", "GetMultiStringValue", "<p:sValue>a=1</p:sValue><p:sValue>b c=2</p:sValue>", "sValueName", "list")
	expect("0", "SetDWORDValue", "", "sValueName", "number", "uValue", "4294967295")
	expect("0", "GetDWORDValue", "<p:uValue>4294967295</p:uValue>", "sValueName", "number")
	expect("1630", "GetDWORDValue", "", "sValueName", "text")
	expect("0", "EnumValues", "<p:sNames>text</p:sNames>")
	expect("0", "DeleteValue", "", "sValueName", "text")
	expect("2", "DeleteValue", "", "sValueName", "text")
	expect("0", "DeleteKey", "")
	expect("2", "EnumKey", `<p:sNames xsi:nil="true"/>`)
}

func system(t *testing.T, h *Host) {
	c := newClient(t, h)
	os := c.ok(transfer+"Get", cimv2+"Win32_OperatingSystem", "", "")
	if name := property(t, "CSName", os); name != h.Name() || property(t, "Version", os) != "10.0.20348" {
		t.Error(os)
	}
	computer := c.query("SELECT Name, TotalPhysicalMemory FROM Win32_ComputerSystem")
	if property(t, "Name", computer) != h.Name() || property(t, "TotalPhysicalMemory", computer) == "0" {
		t.Error(computer)
	}
	if stdout, stderr, code := c.run("hostname", ""); stdout != h.Name()+"\r\n" {
		t.Errorf("hostname: %q, %q, %s", stdout, stderr, code)
	}
}
