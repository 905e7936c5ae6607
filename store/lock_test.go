package store

import (
	"testing"
	"time"
)

// A caller in a hurry gives up on a lock. That tells nothing about the owner, so
// others wait for it as long as before.
func TestHurriedCallerGivesUp(t *testing.T) {
	dir := t.TempDir()
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
}
