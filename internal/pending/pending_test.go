package pending

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

func TestWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ws Writes
		if ws.Of("a") != nil {
			t.Error("a write is pending before any has begun")
		}
		first, second := ws.Begin("a"), ws.Begin("a")
		if first != second || ws.Of("a") != first {
			t.Error("two writes of one key are not the same Write")
		}
		if ws.Of("b") != nil {
			t.Error("a write is pending for another key")
		}
		ended := false
		go func() {
			first.Wait(t.Context())
			ended = true
		}()
		ws.End(first)
		if synctest.Wait(); ended {
			t.Error("Wait returned before the second write had ended")
		}
		ws.End(second)
		if synctest.Wait(); !ended {
			t.Error("Wait did not return after the second write had ended")
		}
		if ws.Of("a") != nil {
			t.Error("a write is pending after all have ended")
		}
		if third := ws.Begin("a"); third == first {
			t.Error("a write that began later is the same Write")
		} else {
			ws.End(third)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ws Writes
		w := ws.Begin("a")
		took := func(ctx context.Context, w *Write) time.Duration {
			start := time.Now()
			w.Wait(ctx)
			return time.Since(start)
		}
		if d := took(t.Context(), w); d != patience.Longest {
			t.Errorf("without a deadline: Wait took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if d := took(ctx, w); d != time.Second/4 {
			t.Errorf("with a deadline: Wait took %v", d)
		}
		if d := took(t.Context(), nil); d != 0 {
			t.Errorf("of nil: Wait took %v", d)
		}
		ws.End(w)
	})
}
