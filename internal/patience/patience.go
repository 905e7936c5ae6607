// Package patience limits how long a request waits for the cache before it goes
// on without it. It also does the waiting.
//
// A request may wait for something that never comes, such as another request or
// a store that hangs. It must then still have time left to ask the origin.
package patience

import (
	"context"
	"errors"
	"math"
	"time"
)

const (
	// Longest is how long a request without a deadline waits.
	Longest = 5 * time.Second

	// Unlimited lets Wait wait until its context ends.
	Unlimited time.Duration = math.MaxInt64
)

// ErrExhausted reports that Wait has waited as long as it may.
var ErrExhausted = errors.New("cachetrip: waited long enough")

// Of returns how long a request may wait from the time now on. It is a quarter
// of the time until the deadline of ctx, and at most limit. The rest of the
// time is for the origin.
func Of(ctx context.Context, now time.Time, limit time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return limit
	}
	return max(0, min(limit, deadline.Sub(now)/4))
}

// Wait returns nil when done is closed. If ctx ends before, the error is its
// cause. If limit passes before, the error is ErrExhausted.
func Wait(ctx context.Context, done <-chan struct{}, limit time.Duration) error {
	select {
	case <-done:
		return nil
	default:
	}
	var exhausted <-chan time.Time // nil: never
	if limit != Unlimited {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		exhausted = timer.C
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-exhausted:
		return ErrExhausted
	}
}
