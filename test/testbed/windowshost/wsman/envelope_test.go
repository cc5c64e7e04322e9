package wsman

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"PT20S": 20 * time.Second, "PT60.000S": time.Minute, "P0DT0H1M2.5S": 62500 * time.Millisecond,
		"P1D": 24 * time.Hour, "PT1H": time.Hour} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "P", "PT", "20S", "PTxS", "P1Y"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}
