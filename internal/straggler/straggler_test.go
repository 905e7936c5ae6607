package straggler_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/straggler"
)

func TestCounter(t *testing.T) {
	for _, test := range []struct {
		name string
		ends []time.Duration // when each straggler ends
		want time.Duration   // what a wait of 5 s takes
	}{
		{"none", nil, 0},
		{"one", []time.Duration{time.Second}, time.Second},
		{"several", []time.Duration{3 * time.Second, time.Second, 2 * time.Second}, 3 * time.Second},
		{"one that does not end in time", []time.Duration{time.Second, time.Minute}, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c straggler.Counter
				for _, end := range test.ends {
					c.Add()
					time.AfterFunc(end, c.Done)
				}
				start := time.Now()
				for range 2 {
					go c.Wait(start.Add(5 * time.Second))
				}
				c.Wait(start.Add(5 * time.Second))
				if waited := time.Since(start); waited != test.want {
					t.Errorf("Wait took %v, want %v", waited, test.want)
				}
			})
		})
	}
}

func TestCounterIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c straggler.Counter
		for range 3 {
			c.Add()
			time.AfterFunc(time.Second, c.Done)
			start := time.Now()
			c.Wait(start.Add(time.Minute))
			if waited := time.Since(start); waited != time.Second {
				t.Errorf("Wait took %v, want 1s", waited)
			}
		}
	})
}
