package store

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// This file decides what eviction does next. Its functions are pure: they take
// values and return values. The file evict.go carries the decisions out.

const (
	// evictPart is the part of a sample that is evicted: its oldest eighth.
	// A key among the oldest eighth of a large sample is also among the oldest
	// keys of the whole cache.
	evictPart = 8

	// evictBatch limits the keys of one step, so that the size of the cache is
	// read again before much more is removed.
	evictBatch = 32

	// evictSoft and evictSoftMax limit the work of one call once the cache is
	// within its size limit: the rest is left to the next calls. A call may work
	// for evictHard while the cache is only near its limit. Removing a file can
	// take a millisecond on a device that is told at once which blocks are free.
	evictSoft    = time.Millisecond
	evictSoftMax = 32
	evictHard    = 3 * time.Millisecond

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
	listed  int           // shards that were listed since a key was removed
}

// reached reports whether a run is to end.
//
// Time spent listing does not count as a fair amount of work. A process forgets
// its listing when it ends. If it had listed and evicted nothing, the next
// process would have to list again.
func (l evictLimits) reached(p evictProgress) bool {
	switch {
	case p.size <= l.target,
		l.keys > 0 && p.keys >= l.keys,
		l.bytes > 0 && p.freed >= l.bytes:
		return true
	}
	fair := p.keys >= evictSoftMax || p.spent-p.listing > evictSoft
	tooLong := p.spent > 4*evictHard
	switch {
	case p.size <= l.full:
		return fair || tooLong
	case p.size <= l.near:
		return fair && p.spent > evictHard || tooLong
	}
	return false
}

// evictAction is what a run of evictions does next.
type evictAction int

const (
	evictStop   evictAction = iota // the run ends
	evictList                      // list more shards, to find candidates
	evictRemove                    // remove some of the candidates
)

// evictStep is one step of a run: the action and, for evictRemove, the keys to
// remove and the candidates that remain for later steps.
type evictStep struct {
	action evictAction
	remove []*keyFiles
	keep   []*keyFiles
}

// planEviction returns the next step of a run. The candidates are in the order
// of eviction. slack is how many bytes too many a key may free and still be
// taken in its turn.
func planEviction(p evictProgress, l evictLimits, candidates []*keyFiles, slack int64) evictStep {
	switch {
	case l.reached(p):
		return evictStep{action: evictStop}
	case len(candidates) > 0:
		remove, keep := chooseVictims(candidates, p.size-l.target, slack)
		return evictStep{evictRemove, remove, keep}
	case p.listed >= shardCount: // all shards were listed in vain
		return evictStep{action: evictStop}
	}
	return evictStep{action: evictList}
}

// chooseVictims takes candidates until they free need bytes, at most evictBatch
// of them. It passes over a large body while smaller candidates are enough: all
// candidates are old, and a large body should not go for a few kilobytes.
func chooseVictims(candidates []*keyFiles, need, slack int64) (victims, rest []*keyFiles) {
	rest = slices.Clone(candidates)
	for need > 0 && len(rest) > 0 && len(victims) < evictBatch {
		fits := func(k *keyFiles) bool { return k.total() <= need+slack }
		i := max(0, slices.IndexFunc(rest, fits)) // if none fits, the oldest
		victims = append(victims, rest[i])
		need -= rest[i].total()
		rest = slices.Delete(rest, i, i+1)
	}
	return victims, rest
}

// evictable returns the keys that may be evicted at now, in place. A body that no
// entry names may not be evicted while its Update may still come.
func evictable(keys []*keyFiles, now int64) []*keyFiles {
	return slices.DeleteFunc(keys, func(k *keyFiles) bool {
		if k.hasEntries {
			return false
		}
		for _, b := range k.blobs {
			k.used = max(k.used, b.mtime)
		}
		return !isOld(now, k.used, orphanAfter)
	})
}

// sortByUse puts the keys that were not used for longest first. A use in the
// future was recorded by a clock that was set back since; it counts as oldest.
func sortByUse(keys []*keyFiles, now time.Time) {
	future := now.Add(time.Minute).UnixNano()
	slices.SortFunc(keys, func(a, b *keyFiles) int {
		if inFuture := a.used > future; inFuture != (b.used > future) {
			if inFuture {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.used, b.used), strings.Compare(a.key, b.key))
	})
}

// evictCandidates returns the keys of a sorted sample that are to go first. If
// greedy has more than its fair share, they are the oldest of its own keys.
func evictCandidates(sample []*keyFiles, greedy *originShare) []*keyFiles {
	if greedy != nil {
		var own []*keyFiles
		for _, k := range sample {
			if k.owner == greedy {
				own = append(own, k)
			}
		}
		if len(own) > 0 {
			sample = own
		}
	}
	return firstPart(sample, evictPart)
}

// firstPart returns the first of so many parts of the keys, at least one key.
func firstPart(keys []*keyFiles, parts int) []*keyFiles {
	return keys[:min(len(keys), max(1, len(keys)/parts))]
}
