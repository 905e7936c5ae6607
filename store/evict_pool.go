package store

import (
	"slices"
	"time"
)

// pool has, for each shard, the keys that are to be evicted first. It remembers
// what listing a shard has found until those keys are gone. So most evictions
// look at no other key: a key that was stored since is younger, and a key that
// was used since shows another use time. The zero value is ready for use.
type pool struct {
	lists    []poolList // of the shards; nil before the first listing
	keys     int        // in all lists
	listings int        // counts the listings
	seen     int        // listed keys that were not followed by evictions yet; see ready

	// later has the keys of samples that come next. One sample of a large shard
	// may be all young, so the next one is compared with them.
	later []*keyFiles
}

type poolList struct {
	keys  []*keyFiles // the oldest first
	used  int64       // of the first key; take looks at those of all shards
	total int64       // of the first key
	turn  int         // how many keys are taken at a time
	empty int         // the listing that found no key, by its number
}

const (
	// poolKeys is how many keys of a shard are remembered: 256 shards take a
	// megabyte. In a cache of twice as many keys these are the older half.
	poolKeys = 32

	// evictPart is the part of the listed keys that may be evicted while some
	// shards are not listed: one in so many. A key among the oldest eighth of a
	// large sample is also among the oldest keys of the whole cache.
	evictPart = 8

	// evictTurn limits the keys that are evicted from a shard at a time. They
	// share a lock, and a note in the usage file. While the caller works on them
	// it keeps others from the shard.
	evictTurn = 4
)

func (l *poolList) set(keys []*keyFiles) {
	if l.keys = keys; len(keys) > 0 {
		l.used, l.total = keys[0].used, keys[0].total()
	}
}

// put replaces the keys of a shard by those of a new listing.
func (p *pool) put(shard int, listed []*keyFiles, now time.Time) {
	if p.lists == nil {
		p.lists = make([]poolList, shardCount)
		p.seen = -sampleFew
	}
	p.listings++
	p.seen += len(listed)
	l := &p.lists[shard]
	l.turn = min(evictTurn, (len(listed)+evictPart-1)/evictPart)
	l.empty = p.listings
	sample := len(listed) > 0 && listed[0].sampled
	if sample {
		listed = slices.Concat(listed, p.later)
	}
	sortByUse(listed, now)
	if sample {
		listed = slices.CompactFunc(listed, func(a, b *keyFiles) bool { return a.key == b.key })
	}
	p.keys -= len(l.keys)
	keys := make([]*keyFiles, 0, min(len(listed), poolKeys))
	var later []*keyFiles
	for _, k := range listed {
		switch {
		case k.shard == shard && len(keys) < poolKeys:
			keys = append(keys, k)
		case len(later) < sampleKeys:
			later = append(later, k)
		}
	}
	if sample {
		p.later = later
	}
	l.set(keys)
	p.keys += len(keys)
}

// ready reports whether enough keys were listed to tell which ones are old.
func (p *pool) ready() bool { return p.keys > 0 && p.seen >= evictPart }

// lacks reports whether a shard may have keys that are not in the pool. If a
// listing found none, it is not listed again before as many others as there are
// shards.
func (p *pool) lacks(shard int) bool {
	if p.lists == nil {
		return true
	}
	l := &p.lists[shard]
	return len(l.keys) == 0 && (l.turn > 0 || l.empty == 0 || p.listings-l.empty >= shardCount)
}

// take removes keys from the pool: those that are to be evicted next, all of
// one shard. While other keys are enough, it passes over a key that frees more
// than most bytes: all keys here are old, and a large body should not go for a
// few kilobytes. If must is false, it takes no such key at all.
func (p *pool) take(now time.Time, most int64, must bool) []*keyFiles {
	var first *poolList
	var best int64
	fits := false
	for i := range p.lists {
		l := &p.lists[i]
		if len(l.keys) == 0 {
			continue
		}
		fit, rank := l.total <= most, useRank(l.used, now)
		if first == nil || fit && !fits || fit == fits && rank < best {
			first, fits, best = l, fit, rank
		}
	}
	if first == nil || !fits && !must {
		return nil
	}
	n := 1
	for most -= first.total; n < min(first.turn, len(first.keys)) && first.keys[n].total() <= most; n++ {
		most -= first.keys[n].total()
	}
	keys := first.keys[:n:n]
	first.set(first.keys[n:])
	p.keys -= n
	p.seen = max(p.seen-n*evictPart, 0)
	return keys
}

// putBack returns keys that were taken last and not evicted.
func (p *pool) putBack(keys []*keyFiles) {
	if len(keys) == 0 {
		return
	}
	l := &p.lists[keys[0].shard]
	l.set(append(keys, l.keys...))
	p.keys += len(keys)
	p.seen += len(keys) * evictPart
}
