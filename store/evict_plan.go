package store

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// This file decides what eviction does next. Its functions are pure: they take
// values and return values. The file evict.go carries the decisions out.

const (
	// evictFew is how many keys a call evicts once the cache is within its size
	// limit, and evictSoft for how long: the rest is left to the next calls. So
	// each call pays for what it stores and a little more, and none for a long
	// batch. A call may work for evictHard while the cache is only near its
	// limit. Removing a file can take a millisecond on a device that is told at
	// once which blocks are free.
	evictFew  = 4
	evictSoft = time.Millisecond / 4
	evictHard = 3 * time.Millisecond

	// evictMany is how many keys a call evicts, instead, after the disk was full:
	// others need the space soon.
	evictMany = 32

	// sampleFew is how many keys are listed before the first one is evicted.
	sampleFew = 64

	// orphanAfter is the age from which a body that no entry names may be evicted
	// like an entry. Until then its Update may still come.
	orphanAfter = time.Minute
)

// evictLimits says when a run of evictions ends. Sizes are in bytes. A run
// always ends at target; every other field that is 0 sets no limit.
type evictLimits struct {
	target int64 // end at this size of the cache
	full   int64 // at this size, end after a fair amount of work
	near   int64 // at this size, end after a long time; at least full
	few    int   // how many keys are a fair amount of work
	keys   int   // end after so many keys
	bytes  int64 // end after so many bytes were freed
}

// evictProgress is what a run of evictions has done so far.
type evictProgress struct {
	size    int64         // of the cache now, in bytes
	freed   int64         // bytes
	keys    int           // keys that were removed
	spent   time.Duration // since the run began
	listing time.Duration // the part of spent that went into listing shards
	listed  int           // shards that were listed or passed over since a key was removed
}

// reached reports whether a run is to end.
//
// Time spent listing does not count as a fair amount of work until a key was
// removed. A process forgets its listing when it ends. If it had listed and
// evicted nothing, the next process would have to list again.
func (l evictLimits) reached(p evictProgress) bool {
	switch {
	case p.size <= l.target,
		l.keys > 0 && p.keys >= l.keys,
		l.bytes > 0 && p.freed >= l.bytes:
		return true
	}
	few := cmp.Or(l.few, evictFew)
	soft := evictSoft * time.Duration(few) / evictFew
	fair := p.keys >= few || p.spent-p.listing > soft
	tooLong := p.spent > 4*evictHard
	switch {
	case p.size <= l.full:
		return fair || p.keys > 0 && p.spent > soft || tooLong
	case p.size <= l.near:
		return fair && p.spent > evictHard || tooLong
	}
	return false
}

// evictAction is what a run of evictions does next.
type evictAction int

const (
	evictStop   evictAction = iota // the run ends
	evictList                      // list another shard, to find candidates
	evictRemove                    // remove some of the candidates
)

// planEviction returns the next step of a run that evicts from a pool. At first
// it lists shards of which the pool has no keys. If the pool gets empty,
// because all its keys were used meanwhile, it goes past all shards a second
// time.
func planEviction(p evictProgress, l evictLimits, from *pool) evictAction {
	switch {
	case l.reached(p):
		return evictStop
	case from.ready():
		return evictRemove
	case p.listed < shardCount:
		return evictList
	case from.keys > 0:
		return evictRemove
	case p.listed < 2*shardCount:
		return evictList
	}
	return evictStop
}

// evictable returns the keys that may be evicted at now, in place. It notes
// which of them have young bodies. A young body that no entry names may not be
// evicted, because its Update may still come.
func evictable(keys []*keyFiles, now int64) []*keyFiles {
	return slices.DeleteFunc(keys, func(k *keyFiles) bool {
		for _, b := range k.blobs {
			k.hasYoung = k.hasYoung || !isOld(now, b.mtime, orphanAfter)
			if !k.hasEntries {
				k.used = max(k.used, b.mtime)
			}
		}
		return !k.hasEntries && k.hasYoung
	})
}

// sortByUse puts the keys that were not used for longest first.
func sortByUse(keys []*keyFiles, now time.Time) {
	slices.SortFunc(keys, func(a, b *keyFiles) int { return compareUse(a, b, now) })
}

// compareUse orders keys by their last use.
func compareUse(a, b *keyFiles, now time.Time) int {
	if a.used == b.used {
		return strings.Compare(a.key, b.key)
	}
	return cmp.Compare(useRank(a.used, now), useRank(b.used, now))
}

// useRank orders times of use. A use in the future was recorded by a clock that
// was set back since; it counts as oldest.
func useRank(used int64, now time.Time) int64 {
	if used > now.UnixNano()+int64(time.Minute) {
		return used - math.MaxInt64
	}
	return used
}
