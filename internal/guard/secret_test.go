//go:build linux || darwin

package guard

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// TestSecretOfDisk asks a Disk for its secret. It is read at once, even if
// another process holds the lock of a shard. To make one, a caller waits for
// that lock as long as it has patience.
func TestSecretOfDisk(t *testing.T) {
	for _, test := range []struct {
		name  string
		known bool          // the cache has a secret
		left  time.Duration // until the caller's deadline; 0: there is none
	}{
		{"there is one", true, 0},
		{"there is one, with a deadline", true, time.Minute},
		{"a new cache", false, 0},
		{"a new cache, with a short deadline", false, 400 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				if test.known {
					if _, err := openDisk(t, dir).Secret(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				d := openDisk(t, dir)
				lockShard(t, filepath.Join(dir, "v1", "data", "00"))
				ctx := t.Context()
				if test.left > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.left)
					defer cancel()
				}
				var g Guard
				secret, err := g.For(d, new(reports), nil).Secret(ctx)
				switch {
				case test.known && (err != nil || len(secret) == 0):
					t.Errorf("%d bytes, %v", len(secret), err)
				case !test.known && err == nil:
					t.Error("a secret was made while the lock was held")
				case !test.known && test.left > 0 && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("%v, want that the patience of the caller has ended", err)
				}
			})
		})
	}
}

func openDisk(t *testing.T, dir string) *store.Disk {
	t.Helper()
	d, err := store.OpenDisk(dir, store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// lockShard takes the lock of a shard, as another process would.
func lockShard(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}
