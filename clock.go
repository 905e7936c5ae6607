package cachetrip

import "time"

// The time of day.

// wallClock returns the time of day, as stored with responses. It has no
// monotonic clock reading, because that means nothing to other processes, and
// stops while a machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }
