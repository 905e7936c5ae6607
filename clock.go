package cachetrip

import "time"

// The time of day.

// wallClock returns the time of day, as it is kept with what is stored: the monotonic clock of a
// process means nothing to the next, and stops while a machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }
