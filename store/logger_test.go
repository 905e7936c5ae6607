package store

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"
)

// TestNothingIsLoggedUnderALock: a Logger may hang, as on a pipe that nobody
// reads, or use the cache itself. Nobody else waits for it meanwhile.
func TestNothingIsLoggedUnderALock(t *testing.T) {
	key := testKey(1)
	damage := func(t *testing.T, d *Disk) {
		b, err := os.ReadFile(d.path(key))
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		if err := os.WriteFile(d.path(key), b, 0o600); err != nil {
			t.Fatal(err)
		}
		d.tier.remove(key)
	}
	// hold lets another Disk hold the locks of all shards, as processes that are
	// stopped do.
	hold := func(t *testing.T, d *Disk) {
		other := openTest(t, d.Dir(), DiskOptions{})
		for shard := range shardCount {
			l, err := other.lock(t.Context(), shard, lockWait)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(l.unlock)
			d.locks.stalled[shard].Store(time.Now().Add(-time.Millisecond).UnixNano()) // so that d waits for a moment only
		}
	}
	var page usagePage
	for name, log := range map[string]func(*testing.T, *Disk){
		"damaged entries": func(t *testing.T, d *Disk) {
			damage(t, d)
			d.Entries(t.Context(), key)
		},
		"damage that stays": func(t *testing.T, d *Disk) {
			damage(t, d)
			hold(t, d)
			d.loadExact(t.Context(), key)
		},
		"an entry that cannot be changed": func(t *testing.T, d *Disk) {
			d.retract(t.Context(), key, func([]*Entry) []*Entry { return nil })
		},
		"eviction": func(t *testing.T, d *Disk) {
			hold(t, d)
			d.makeRoom(t.Context(), d.max+1, d.max)
		},
		"a full disk": func(t *testing.T, d *Disk) { d.makeSpace(t.Context(), 0, 1) },
		"a shard that is not listed": func(t *testing.T, d *Disk) {
			hold(t, d)
			d.housekeep(t.Context(), 0, &page)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d *Disk
			logged := make(map[string]bool)
			d = openTest(t, scratchDir(t), DiskOptions{Logger: slog.New(handlerFunc(func(r slog.Record) {
				logged[r.Message] = true
				for name, l := range map[string]shardLock{"evictor": d.evictor.mu, "shard": d.locks.of(shardOf(key))} {
					select {
					case l <- struct{}{}:
						<-l
					default:
						t.Errorf("%q is logged with the lock of the %s", r.Message, name)
					}
				}
				for name, mu := range map[string]*sync.Mutex{"usage file": &d.usage.mu, "counters": &d.counts.mu, "leases": &d.leases.mu} {
					if !mu.TryLock() {
						t.Errorf("%q is logged with the lock of the %s", r.Message, name)
						continue
					}
					mu.Unlock()
				}
			}))})
			mustPut(t, d, key, pattern(1, 5000))
			log(t, d)
			if len(logged) == 0 {
				t.Error("nothing is logged")
			}
		})
	}
}

type handlerFunc func(slog.Record)

func (handlerFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f handlerFunc) Handle(_ context.Context, r slog.Record) error {
	f(r)
	return nil
}
func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f handlerFunc) WithGroup(string) slog.Handler      { return f }
