package cachetrip

import (
	"context"
	"time"
)

// maxPatience is the longest that a request waits for the cache: for another request that wants the same, or for a
// store that does not answer.
const maxPatience = 5 * time.Second

// patience returns how long a request may wait, at the time now, before it goes on without what it waits for: a
// quarter of the time that the deadline of ctx leaves, and no longer than most. The rest of the time is for the
// origin.
func patience(ctx context.Context, now time.Time, most time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return most
	}
	return max(0, min(most, deadline.Sub(now)/4))
}
