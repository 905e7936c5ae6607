package command

import (
	"regexp"
	"time"
)

// All commands write times in one way: in the user's time zone, with its offset
// from UTC. The JSON forms have UTC.

const clockLayout = "2006-01-02 15:04:05 -0700"

// clock formats a time.
func clock(t time.Time) string { return t.Local().Format(clockLayout) }

var utcTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// localTimes replaces the times in sentences of the cache, which are UTC.
func localTimes(text string) string {
	return utcTime.ReplaceAllStringFunc(text, func(found string) string {
		t, err := time.Parse(time.RFC3339, found)
		if err != nil {
			return found
		}
		return clock(t)
	})
}

// ago says how long ago a response was last used. The store knows that to the
// hour.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "-"
	case d < time.Hour:
		return "<1h ago"
	default:
		return span(d.Truncate(time.Hour)) + " ago"
	}
}
