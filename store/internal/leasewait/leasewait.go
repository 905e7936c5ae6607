// Package leasewait has what the leases of all stores share: how a process
// waits for another one that fetches the same response.
package leasewait

import (
	"context"
	"time"
)

// UselessTime is how long a fetch is remembered whose response was of no use to
// others, so that nobody waits for the like. A Transport remembers it as long
// for itself.
const UselessTime = 10 * time.Second

// firstLook and lastLook are the pauses between looks at a lease. The first
// suits a fast origin. The last is little beside the time of a slow one.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = 30 * time.Millisecond
)

// ForEnd waits until the lease of another process ends, and reports whether
// it did. It calls ended now and then. It gives up at the time last, when ctx
// ends, and if ended returns an error.
func ForEnd(ctx context.Context, last time.Time, ended func() (bool, error)) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for pause := firstLook; ; pause = min(lastLook, pause*3/2) {
		left := time.Until(last)
		if left <= 0 {
			return false
		}
		timer.Reset(min(pause, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
		if over, err := ended(); over || err != nil {
			return over && err == nil
		}
	}
}
