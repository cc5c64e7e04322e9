package wql

import (
	"slices"
	"testing"
)

func TestMatches(t *testing.T) {
	service := map[string]any{"Name": "Orders", "PathName": `C:\Orders\o.exe`, "ProcessId": uint32(42), "Started": true,
		"DelayedAutoStart": false, "Description": nil}
	value := func(property string) any { return service[property] }
	for query, want := range map[string]bool{
		`SELECT * FROM Win32_Service`:                                                                         true,
		`select Name,State from Win32_Service where Name='orders'`:                                            true,
		`SELECT * FROM Win32_Service WHERE Name = "other"`:                                                    false,
		`SELECT * FROM Win32_Service WHERE Name <> "other" AND ProcessId = 42`:                                true,
		`SELECT * FROM Win32_Service WHERE Name='x' OR Name='Orders'`:                                         true,
		`SELECT * FROM Win32_Service WHERE (Name='x' OR Name='Orders') AND Started = FALSE`:                   false,
		`SELECT * FROM Win32_Service WHERE Name='Orders' OR Name='x' AND Started = FALSE`:                     true,
		`SELECT * FROM Win32_Service WHERE PathName = 'C:\\Orders\\o.exe'`:                                    true,
		`SELECT * FROM Win32_Service WHERE Name LIKE 'Ord%'`:                                                  true,
		`SELECT * FROM Win32_Service WHERE Name LIKE '_rder[a-s]'`:                                            true,
		`SELECT * FROM Win32_Service WHERE Name LIKE 'rder'`:                                                  false,
		`SELECT * FROM Win32_Service WHERE Description IS NULL`:                                               true,
		`SELECT * FROM Win32_Service WHERE Description = 'x'`:                                                 false,
		`SELECT * FROM Win32_Service WHERE Name IS NOT NULL AND NOT Started = FALSE AND ProcessId >= 42`:      true,
		`SELECT * FROM Win32_Service WHERE DelayedAutoStart = true OR ProcessId > 42 OR Description <> 'any'`: false,
	} {
		q, err := Parse(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := q.Matches(value); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, query := range []string{"", "SELECT", "SELECT * Win32_Service", "SELECT * FROM", "SELECT * FROM A WHERE", "SELECT * FROM A WHERE B",
		"SELECT * FROM A WHERE B = C", "SELECT * FROM A WHERE (B = 1", "SELECT * FROM A WHERE B = 'x", `SELECT * FROM A WHERE B = 'C:\x'`,
		"SELECT * FROM A WHERE B LIKE 1", "SELECT * FROM A; DROP", "SELECT a, FROM b", "SELECT * FROM A WHERE B = 1 C"} {
		if _, err := Parse(query); err == nil {
			t.Errorf("%q was taken", query)
		}
	}
}

func TestWhatIsDemanded(t *testing.T) {
	q, err := Parse(`SELECT * FROM CIM_DataFile WHERE Name='C:\\a' OR (Hidden=FALSE AND name="D:\\b") OR Name='c'`)
	if err != nil {
		t.Fatal(err)
	}
	if names, ok := q.Alternatives("Name"); !ok || !slices.Equal(names, []string{`C:\a`, `D:\b`, "c"}) {
		t.Errorf("alternatives %q, %v", names, ok)
	}
	if q, err = Parse(`SELECT * FROM CIM_DataFile WHERE Name='a' OR Hidden=TRUE`); err != nil {
		t.Fatal(err)
	}
	if names, ok := q.Alternatives("Name"); ok {
		t.Errorf("alternatives %q", names)
	}
}
