package leasewait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/store/internal/leasewait"
)

func TestForEnd(t *testing.T) {
	const (
		never = time.Hour
		pause = 30 * time.Millisecond // the longest between two looks
	)
	for _, test := range []struct {
		name     string
		ends     time.Duration // when the lease ends
		fails    time.Duration // when looks begin to fail
		canceled time.Duration // when the context ends
		limit    time.Duration
		want     bool
		after    time.Duration
		late     time.Duration // by how much more
	}{
		{"it ends at once", 0, never, never, time.Minute, true, 2 * time.Millisecond, 0},
		{"it ends", time.Second, never, never, time.Minute, true, time.Second, pause},
		{"a look fails", time.Second, 100 * time.Millisecond, never, time.Minute, false, 100 * time.Millisecond, pause},
		{"the context ends", time.Second, never, 100 * time.Millisecond, time.Minute, false, 100 * time.Millisecond, 0},
		{"the context has ended", 0, never, 0, time.Minute, false, 0, 0},
		{"the limit passes", time.Second, never, never, 100 * time.Millisecond, false, 100 * time.Millisecond, 0},
		{"there is no time", 0, never, never, 0, false, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.canceled == 0 {
					cancel()
				}
				time.AfterFunc(test.canceled, cancel)
				looks := 0
				got := leasewait.ForEnd(ctx, began.Add(test.limit), func() (bool, error) {
					looks++
					if time.Since(began) >= test.fails {
						return true, errors.New("no look")
					}
					return time.Since(began) >= test.ends, nil
				})
				took := time.Since(began)
				if got != test.want || took < test.after || took > test.after+test.late {
					t.Errorf("got %t after %v, want %t after %v", got, took, test.want, test.after)
				}
				if most := 10 + int(took/pause); looks > most {
					t.Errorf("%d looks in %v", looks, took)
				}
			})
		})
	}
}
