package store

import (
	"cmp"
	"context"
	"math"
	"time"
)

// This file makes room while the size of the cache is unknown, because its
// usage file was lost or damaged.

// evictUnknown makes room while the size of some shards is unknown. It lists
// those shards and evicts the oldest keys of each until need bytes are freed,
// because as many are to be added. It passes over shards of less than half the
// average size. In a full cache others are larger. In other caches it lists all
// shards in the end. A large body may free more than need: the rest pays for
// the next calls. It returns how many bytes it freed, or math.MaxInt64 once it
// went past every shard.
//
// The rest is void if more shards are unknown than before: the usage file was
// lost again, and others may have filled the cache in between.
func (d *Disk) evictUnknown(ctx context.Context, need int64) (paid int64, err error) {
	e := &d.evictor
	if err := e.wait(ctx); err != nil {
		return 0, opError("evict", err)
	}
	var failed error
	defer func() { // after the lock is released
		if failed != nil {
			d.log.Debug("cachetrip: store: eviction failed", "error", failed)
		}
	}()
	defer func() { <-e.mu }()
	start := time.Now()
	now := d.fileNow()
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		return 0, err
	}
	unknown, listed := page.unknown(), 0
	if unknown <= e.spareUnknown {
		paid = e.spare
	}
	defer func() {
		e.spare, e.spareUnknown = max(0, paid-need), unknown-listed
		if paid == math.MaxInt64 {
			e.spare = 0
		}
	}()
	for range shardCount {
		e.turns.Add(1)
		shard := e.nextShard()
		if err := d.readUsage(&page); err != nil {
			return paid, err
		}
		if page.slot(shard).known {
			continue
		}
		if paid >= need && listed > 0 && time.Since(start) > listSoft {
			return paid, ctx.Err()
		}
		list, err := d.scan(ctx, shard)
		if ctx.Err() != nil {
			return paid, ctx.Err()
		}
		if err != nil {
			continue
		}
		listed++
		over := list.bytes - d.max/shardCount/2
		if over <= 0 || paid >= need {
			continue
		}
		keys := evictable(list.keys, now)
		sortByUse(keys, time.Now())
		run := evictRun{d: d, start: start, page: &page, limits: evictLimits{bytes: min(need-paid, over)}, done: evictProgress{size: list.bytes}}
		_, err = run.removeFrom(ctx, shard, keys[:(len(keys)+1)/2])
		failed = cmp.Or(failed, err)
		paid += run.done.freed
	}
	return math.MaxInt64, nil
}
