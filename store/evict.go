package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// This file carries eviction out: it lists shards, asks the planner in
// evict_plan.go for the next step, and removes keys under the locks of shards.

const (
	// listSoft is how long a call goes on listing if that can wait.
	listSoft = time.Millisecond

	// evictWait is how long a request waits for another one that evicts, which
	// may itself wait for lockWait.
	evictWait = 4 * lockWait

	// roomTries is how often a caller makes room and tries again while others
	// take that room first.
	roomTries = 3
)

// evictor finds the keys to evict. No list of the cache's content exists: the
// evictor lists shards in turn and remembers their oldest keys.
type evictor struct {
	mu     shardLock // held by the goroutine that evicts
	cursor int       // the shard to list next
	all    pool
	own    pool         // of greedy's keys only
	greedy *originShare // the origin that had more than its fair share last
	survey survey

	// While the size is unknown: bytes that were freed and not added again yet,
	// and how many shards were unknown when they were freed.
	spare        int64
	spareUnknown int

	turns atomic.Uint64 // counts steps, so that waiting callers see progress
}

func (e *evictor) init() {
	e.mu = make(shardLock, 1)
	e.cursor = rand.IntN(shardCount) // so that short-lived processes begin at different shards
}

// close gives up the survey, unless a caller is at it, which then does so
// itself.
func (e *evictor) close() {
	select {
	case e.mu <- struct{}{}:
		e.survey.giveUp(0)
		<-e.mu
	default:
	}
}

// nextShard returns the shard whose turn it is.
func (e *evictor) nextShard() int {
	shard := e.cursor
	e.cursor = (e.cursor + 1) % shardCount
	return shard
}

// wait waits for the evictor's lock as long as its holder makes progress.
func (e *evictor) wait(ctx context.Context) error {
	seen, idle := e.turns.Load(), 0
	for {
		timer := time.NewTimer(evictWait / idleTwice)
		select {
		case e.mu <- struct{}{}:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if now := e.turns.Load(); now != seen {
			seen, idle = now, 0
		} else if idle++; idle == idleTwice {
			return errLocked
		}
	}
}

// near is the size that the cache may have for a moment. It leaves a part of
// the 10 % above the limit to callers that write at the same moment.
func (d *Disk) near() int64 { return d.max + d.max/32 }

// grant makes room for a caller that found none. It returns ErrTooLarge if
// there is nothing left to evict.
func (d *Disk) grant(ctx context.Context, full *fullError, r *room) error {
	if full.unknown {
		paid, err := d.evictUnknown(ctx, full.delta)
		r.paid = paid
		return err
	}
	ok, err := d.makeRoom(ctx, full.sum, full.delta)
	if !ok && err == nil {
		err = ErrTooLarge
	}
	return err
}

// makeRoom evicts until the cache, whose size is sum, stays within its limit
// with extra bytes added. It evicts a little more, so that the next calls need
// not, but takes no longer than a request can wait. It reports whether the
// cache is within or near its limit then. The error is nil if there was nothing
// more to evict.
func (d *Disk) makeRoom(ctx context.Context, sum, extra int64) (bool, error) {
	limit := d.limit()
	full, near := limit-extra, d.near()-extra
	e := &d.evictor
	select {
	case e.mu <- struct{}{}:
	default:
		if sum <= near {
			return true, nil // another caller evicts already
		}
		if err := e.wait(ctx); err != nil {
			return false, opError("evict", err)
		}
	}
	var failed error
	defer func() { // after the lock is released
		if failed != nil {
			d.log.Debug("cachetrip: store: eviction failed", "error", failed)
		}
	}()
	defer func() { <-e.mu }()
	limits := evictLimits{target: full - limit/64, full: full, near: near}
	if limit < d.max {
		limits.few = evictMany
	}
	done, err := d.evict(ctx, limits)
	failed = err
	if done.size <= near {
		err = nil
	}
	return done.size <= near, err
}

// evict evicts keys until the limits are reached or there is nothing more to
// evict. It goes on after an error in one shard and returns the first such
// error. The caller holds the evictor's lock.
func (d *Disk) evict(ctx context.Context, limits evictLimits) (evictProgress, error) {
	r := evictRun{d: d, limits: limits, start: time.Now(), page: pagePool.Get().(*usagePage)}
	defer pagePool.Put(r.page)
	err := r.run(ctx)
	if r.lastUse > 0 {
		now := time.Duration(time.Now().UnixNano() - r.lastUse)
		if noted, _ := r.page.residence(); (now - noted).Abs() > noted/16 { // it is a rough figure
			d.setResidence(now)
		}
	}
	return r.done, cmp.Or(err, r.failed)
}

// evictRun is one run of evictions.
type evictRun struct {
	d       *Disk
	limits  evictLimits
	start   time.Time
	page    *usagePage // as it was read last
	done    evictProgress
	lastUse int64 // when the key that was removed last had been used
	failed  error // the first error of a shard
}

// run carries out one step after the other.
func (r *evictRun) run(ctx context.Context) error {
	d := r.d
	if err := d.readUsage(r.page); err != nil {
		return err // the size is unknown; the caller finds out when it notes its growth
	}
	for {
		r.d.evictor.turns.Add(1)
		r.done.size, r.done.spent = r.page.sum(), time.Since(r.start)
		if err := ctx.Err(); err != nil {
			return err
		}
		p, within := r.choose()
		switch planEviction(r.done, r.limits, p) {
		case evictStop:
			return nil
		case evictList:
			if shard := r.next(p, within); shard >= 0 {
				r.list(ctx, shard)
			}
		case evictRemove:
			// Within the limit, only the room in reserve is missing.
			most := r.done.size - r.limits.target + d.limit()/64
			keys := p.take(time.Now(), most, r.done.size > r.limits.full)
			if len(keys) == 0 {
				return nil
			}
			rest, err := r.removeFrom(ctx, keys[0].shard, keys)
			p.putBack(rest)
			if err != nil {
				r.failed = cmp.Or(r.failed, err)
				if err := r.d.readUsage(r.page); err != nil {
					return err
				}
			}
		}
	}
}

// choose returns the pool to evict from, and the shards that may have keys for
// it: nil for all. If an origin has more than its fair share, that is the pool
// of its own keys, unless no shard has any.
func (r *evictRun) choose() (*pool, *shardSet) {
	e := &r.d.evictor
	greedy, shards := r.d.shares.over(r.d.limit())
	if greedy != nil && greedy != e.greedy {
		e.greedy, e.own = greedy, pool{}
	}
	if greedy == nil || e.own.keys == 0 && r.done.listed >= 2*shardCount {
		return &e.all, nil
	}
	return &e.own, &shards
}

// next returns the next shard to list for a pool, or -1 if the cursor passed
// all shards without finding any.
func (r *evictRun) next(p *pool, within *shardSet) int {
	for range shardCount {
		shard := r.d.evictor.nextShard()
		r.done.listed++
		s := r.page.slot(shard)
		if !(s.known && s.bytes == 0) && (within == nil || within.has(shard)) && (p.keys == 0 || p.lacks(shard)) {
			return shard
		}
	}
	return -1
}

// list lists a shard and puts its oldest keys into the pools.
func (r *evictRun) list(ctx context.Context, shard int) {
	d, e := r.d, &r.d.evictor
	start := time.Now()
	defer func() { r.done.listing += time.Since(start) }()
	list, err := d.sampleShard(ctx, shard, r.page.slot(shard).bytes)
	if err != nil {
		if ctx.Err() == nil {
			r.failed = cmp.Or(r.failed, err)
		}
		list = &shardList{}
	}
	keys := list.keys
	if slices.ContainsFunc(keys, func(k *keyFiles) bool { return len(k.blobs) > 0 }) {
		keys = evictable(keys, d.fileNow())
	}
	e.all.put(shard, keys, start)
	greedy, _ := d.shares.over(d.limit())
	if greedy == nil || greedy != e.greedy || err != nil {
		return
	}
	d.learnOwners(keys)
	keys = slices.DeleteFunc(keys, func(k *keyFiles) bool { return k.owner != greedy })
	e.own.put(shard, keys, start)
	if len(keys) == 0 {
		d.shares.notIn(greedy, shard)
	}
}

// removeFrom removes keys of one shard until the limits are reached. It skips
// keys that were used or changed since they were listed. It returns the keys
// that it did not come to.
func (r *evictRun) removeFrom(ctx context.Context, shard int, keys []*keyFiles) (rest []*keyFiles, err error) {
	d := r.d
	l, err := d.lock(ctx, shard, lockWait)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	var freed int64
	for i, k := range keys {
		if r.limits.reached(r.done) {
			rest = keys[i:]
			break
		}
		var n int64
		if n, err = l.evictKey(k); err != nil {
			break
		}
		if n == 0 {
			continue
		}
		freed += n
		d.evictions.Add(1)
		r.lastUse = k.used
		r.done.size -= n
		r.done.freed += n
		r.done.keys++
		r.done.listed = 0
		r.done.spent = time.Since(r.start)
	}
	if freed > 0 {
		if _, aerr := l.account(-freed, r.page); err == nil {
			err = aerr
		}
	}
	return rest, opError("evict", err)
}

// evictKey removes the files of a key and returns how many bytes that frees. It
// returns 0 if the key was used or changed since it was listed. Young bodies
// stay if no entry names them.
func (l *locked) evictKey(k *keyFiles) (freed int64, err error) {
	var st fileStat
	err = l.dir.stat(k.key, &st)
	if k.hasEntries && (err != nil || st.atime != k.used || st.mtime != k.mtime) || !k.hasEntries && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var named map[string]bool
	if k.hasEntries && (k.sampled || k.hasYoung) {
		if st, _, err := l.load(k.key); err == nil {
			named = fileBlobs(st.entries)
		}
	}
	if err := l.remove(k.key); err != nil {
		return 0, err
	}
	l.d.tier.remove(k.key)
	l.d.shares.set(k.key, nil)
	freed = allocated(st.size)
	for _, b := range k.blobs {
		if !k.hasYoung && l.dir.remove(b.name) == nil {
			freed += b.size
		}
	}
	for id := range named {
		if n, err := l.removeBlob(k.key, id); err == nil {
			freed += allocated(n)
		}
	}
	return freed, nil
}
