package patience_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

func TestOf(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name  string
		left  time.Duration // until the deadline; 0: there is none
		limit time.Duration
		want  time.Duration
	}{
		{"without a deadline", 0, patience.Longest, 5 * time.Second},
		{"a quarter", 2 * time.Second, patience.Longest, 500 * time.Millisecond},
		{"no longer than the limit", time.Minute, patience.Longest, 5 * time.Second},
		{"an option", time.Minute, time.Second, time.Second},
		{"over", -time.Second, patience.Longest, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := context.Background()
			if test.left != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, now.Add(test.left))
				defer cancel()
			}
			if got := patience.Of(ctx, now, test.limit); got != test.want {
				t.Errorf("Of = %v, want %v", got, test.want)
			}
		})
	}
}

func TestWait(t *testing.T) {
	errCause := errors.New("the caller has left")
	for _, test := range []struct {
		name  string
		done  time.Duration // when the channel is closed; 0: before
		ends  time.Duration // when the context ends
		limit time.Duration
		want  error
		after time.Duration
	}{
		{"done before", 0, time.Minute, -time.Second, nil, 0},
		{"done in time", time.Second, time.Minute, 2 * time.Second, nil, time.Second},
		{"done without a limit", time.Hour, 2 * time.Hour, patience.Unlimited, nil, time.Hour},
		{"the context ends", time.Minute, time.Second, 2 * time.Second, errCause, time.Second},
		{"the context ends, without a limit", time.Hour, time.Minute, patience.Unlimited, errCause, time.Minute},
		{"the limit passes", time.Minute, time.Minute, 2 * time.Second, patience.ErrExhausted, 2 * time.Second},
		{"the limit has passed", time.Minute, time.Minute, -time.Second, patience.ErrExhausted, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer time.AfterFunc(test.ends, func() { cancel(errCause) }).Stop()
				done := make(chan struct{})
				if test.done == 0 {
					close(done)
				} else {
					defer time.AfterFunc(test.done, func() { close(done) }).Stop()
				}
				start := time.Now()
				if err := patience.Wait(ctx, done, test.limit); err != test.want {
					t.Errorf("Wait = %v, want %v", err, test.want)
				}
				if waited := time.Since(start); waited != test.after {
					t.Errorf("Wait took %v, want %v", waited, test.after)
				}
			})
		})
	}
}
