package duration_test

import (
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/duration"
)

func TestFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                            "0s",
		0:                                       "0s",
		999 * time.Millisecond:                  "0s",
		time.Second:                             "1s",
		59*time.Minute + 12*time.Second:         "59m 12s",
		time.Hour:                               "1h",
		time.Hour + 59*time.Second:              "1h",
		27*time.Hour + 59*time.Minute:           "1d 3h",
		400*24*time.Hour + 1500*time.Nanosecond: "400d",
	} {
		if got := duration.Format(d, " "); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
	if got := duration.Format(90*time.Minute, ""); got != "1h30m" {
		t.Errorf("without a separator: %q", got)
	}
}
