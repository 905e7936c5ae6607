package inflight_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// TestFourAtATime has ten callers take a turn, each for a second.
func TestFourAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns inflight.Turns
		var wg sync.WaitGroup
		var mu sync.Mutex
		began := make(map[time.Duration]int)
		start := time.Now()
		for range 10 {
			wg.Go(func() {
				turn := turns.Take(key)
				defer turn.End()
				if err := turn.Wait(t.Context(), patience.Unlimited); err != nil {
					t.Error(err)
				}
				mu.Lock()
				began[time.Since(start)]++
				mu.Unlock()
				time.Sleep(time.Second)
			})
		}
		other := turns.Take(inflight.Key{Subject: "another"})
		if err := other.Wait(t.Context(), 0); err != nil {
			t.Error(err)
		}
		other.End()
		wg.Wait()
		if began[0] != 4 || began[time.Second] != 4 || began[2*time.Second] != 2 {
			t.Errorf("turns began at %v, want four, four and two", began)
		}
		if n := turns.Queues(); n != 0 {
			t.Errorf("%d keys are remembered", n)
		}
	})
}

func TestWaitForATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns inflight.Turns
		var taken []*inflight.Turn
		for range 4 {
			taken = append(taken, turns.Take(key))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		impatient, gone, last := turns.Take(key), turns.Take(key), turns.Take(key)
		start := time.Now()
		if err := impatient.Wait(ctx, time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("Wait = %v after %v, want nil when the limit has passed", err, time.Since(start))
		}
		if err := gone.Wait(ctx, time.Minute); err != context.DeadlineExceeded {
			t.Errorf("Wait = %v, want %v", err, context.DeadlineExceeded)
		}
		gone.End()
		impatient.End() // neither had its turn
		came := func() bool { return last.Wait(ctx, 0) == nil && last.Came() }
		if came() {
			t.Error("a fifth turn has come")
		}
		taken[2].End()
		taken[2].End()
		if !came() {
			t.Error("the next turn has not come")
		}
		if fifth := turns.Take(key); fifth.Came() {
			t.Error("a turn that was ended twice is given twice")
		}
	})
}

func TestNoTurn(t *testing.T) {
	var none *inflight.Turn
	if err := none.Wait(t.Context(), time.Hour); err != nil {
		t.Error(err)
	}
	none.End()
}
