//go:build linux || darwin

package guard

import (
	"bytes"
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// TestUpdateOfDisk updates a Disk for several callers. One that has no deadline
// needs no other goroutine. None waits for a lock longer than its patience.
func TestUpdateOfDisk(t *testing.T) {
	key := strings.Repeat("0", 64)
	for _, test := range []struct {
		name   string
		ctx    func(context.Context) (context.Context, context.CancelFunc)
		direct bool
	}{
		{"no deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithoutCancel(ctx), func() {}
		}, true},
		{"a deadline that does not end the call", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return patience.Until(context.WithoutCancel(ctx), time.Now().Add(400*time.Millisecond)), func() {}
		}, false},
		{"a caller that may leave", context.WithCancel, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			d := openDisk(t, dir)
			var g Guard
			s := g.For(d, new(reports), nil)
			ctx, cancel := test.ctx(t.Context())
			defer cancel()
			var inside string
			change := func(current []*store.Entry) []*store.Entry {
				inside = goroutine()
				return current
			}
			if err := s.Update(ctx, key, change); err != nil {
				t.Fatal(err)
			}
			if direct := inside == goroutine(); direct != test.direct {
				t.Errorf("in the goroutine of the caller: %t, want %t", direct, test.direct)
			}
			lockShard(t, filepath.Join(dir, "v1", "data", "00"))
			ctx, cancel = test.ctx(t.Context())
			defer cancel()
			if err := s.Update(ctx, key, change); err == nil {
				t.Error("updated while the lock was held")
			}
			if err := s.Update(ctx, strings.Repeat("f", 64), change); err != nil {
				t.Error(err)
			}
			g.Shut(0)
			if err := s.Update(ctx, strings.Repeat("f", 64), change); err != ErrShut {
				t.Errorf("%v after Shut", err)
			}
		})
	}
}

// goroutine returns the name of the goroutine that calls it.
func goroutine() string {
	b := make([]byte, 64)
	name, _, _ := bytes.Cut(b[:runtime.Stack(b, false)], []byte(" ["))
	return string(name)
}
