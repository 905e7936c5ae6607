package store

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A caller in a hurry gives up on a lock. That tells nothing about the owner, so
// others wait for it as long as before.
func TestHurriedCallerGivesUp(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
		mustPut(t, d, testKeyOne, pattern(1, 100))
		shard := shardOf(testKeyOne)
		l, err := other.lock(t.Context(), shard, lockWait)
		if err != nil || !l.alone {
			t.Skipf("there are no locks here: %v", err)
		}
		for _, wait := range []time.Duration{0, lockRetry} {
			if mine, err := d.lock(t.Context(), shard, wait); CauseOf(err) != CauseLocked {
				if err == nil {
					mine.unlock()
				}
				t.Errorf("the lock, within %v: %v, want %v", wait, err, CauseLocked)
			}
		}
		time.AfterFunc(20*lockRetry, l.unlock)
		if err := putBody(d, testKeyOne, pattern(2, 100)); err != nil {
			t.Errorf("an Update did not wait for the lock: %v", err)
		}
	})
}

// A reader of damage looks at the lock once more when its time is over, however
// long the process was stopped. So it removes the damage if the lock is free.
func TestDamageIsRemovedAfterTheWait(t *testing.T) {
	for name, size := range map[string]int{"entries": 1000, "a body": 100_000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				opts := DiskOptions{MemoryBytes: -1}
				d, other := openTest(t, dir, opts), openTest(t, dir, opts)
				mustPut(t, d, testKeyOne, pattern(1, size))
				e := mustEntries(t, d, testKeyOne)[0]
				path := d.path(testKeyOne)
				if size > inlineMax {
					path = d.path(blobName(testKeyOne, e.Parts[0].Blob.ID))
				}
				if err := os.Truncate(path, 500); err != nil {
					t.Fatal(err)
				}
				l, err := other.lock(t.Context(), shardOf(testKeyOne), lockWait)
				if err != nil || !l.alone {
					t.Skipf("there are no locks here: %v", err)
				}
				time.AfterFunc(discardWait-time.Nanosecond, l.unlock)
				if es := mustEntries(t, d, testKeyOne); size > inlineMax {
					if _, err := readBody(d, es[0]); !errors.Is(err, ErrDamaged) {
						t.Errorf("a damaged body: %v", err)
					}
				}
				if !isMissing(d.path(testKeyOne)) {
					t.Error("the damage is still there")
				}
			})
		})
	}
}
