package cachetrip

import (
	"context"
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name  string
		left  time.Duration // until the deadline; 0: there is none
		most  time.Duration
		waits time.Duration
	}{
		{"without a deadline", 0, maxPatience, 5 * time.Second},
		{"a quarter", 2 * time.Second, maxPatience, 500 * time.Millisecond},
		{"no longer than most", time.Minute, maxPatience, 5 * time.Second},
		{"an option", time.Minute, time.Second, time.Second},
		{"over", -time.Second, maxPatience, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := context.Background()
			if test.left != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, now.Add(test.left))
				defer cancel()
			}
			if got := patience(ctx, now, test.most); got != test.waits {
				t.Errorf("patience = %v, want %v", got, test.waits)
			}
		})
	}
}
