package command

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                   "0s",
		999 * time.Millisecond:              "0s",
		time.Second:                         "1s",
		59 * time.Second:                    "59s",
		time.Minute:                         "1m",
		61 * time.Second:                    "1m1s",
		time.Hour + time.Second:             "1h",
		3599 * time.Second:                  "59m59s",
		27*time.Hour + 59*time.Minute:       "1d3h",
		365*24*time.Hour + 23*time.Hour - 1: "365d22h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0:               "0 B",
		999:             "999 B",
		1000:            "1.0 kB",
		12345:           "12.3 kB",
		999_949:         "999.9 kB",
		999_950:         "1.0 MB",
		1 << 30:         "1.1 GB",
		999_999_999_999: "1.0 TB",
		1<<63 - 1:       "9223.4 PB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
