package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// This file carries eviction out: it lists shards, asks the planner in
// evict_plan.go for the next step, and removes keys under the locks of shards.

const (
	// sampleKeys is how many keys are listed, from as many shards as that takes,
	// before the oldest part of them is evicted.
	sampleKeys = 256

	// A small cache has few keys in each of many shards. There sampleFew keys are
	// enough once listing has taken listSoft.
	sampleFew = 64
	listSoft  = time.Millisecond

	// evictWait is how long a request waits for another one that evicts, which
	// may itself wait for lockWait.
	evictWait = 4 * lockWait

	// roomTries is how often a caller makes room and tries again while others
	// take that room first.
	roomTries = 3
)

// evictor finds the keys to evict. No list of the cache's content exists: the
// evictor lists shards in turn and takes the oldest of their keys.
type evictor struct {
	mu     shardLock // held by the goroutine that evicts
	cursor int       // the shard to list next
	pool   []*keyFiles
	old    []*keyFiles // of earlier samples, those that are next; see evictRun.list
	survey survey

	turns atomic.Uint64 // counts steps, so that waiting callers see progress
}

func (e *evictor) init() {
	e.mu = make(shardLock, 1)
	e.cursor = rand.IntN(shardCount) // so that short-lived processes begin at different shards
}

// close gives up the survey, unless a caller is at it, which then does so itself.
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

// near is the size that the cache may have for a moment. It leaves a part of the
// 10 % above the limit to callers that write at the same moment.
func (d *Disk) near() int64 { return d.max + d.max/32 }

// grant makes room for a caller that found none. It returns ErrTooLarge if there
// is nothing left to evict.
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

// makeRoom evicts until the cache, whose size is sum, stays within its limit with
// extra bytes added. It evicts a little more, so that the next calls need not, but
// takes no longer than a request can wait. It reports whether the cache is within
// or near its limit then. The error is nil if there was nothing more to evict.
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
	defer func() { <-e.mu }()
	done, err := d.evict(ctx, evictLimits{target: full - limit/64, full: full, near: near})
	if err != nil {
		d.log.Debug("cachetrip: store: eviction failed", "error", err)
	}
	if done.size <= near {
		err = nil
	}
	return done.size <= near, err
}

// evictUnknown makes room while the size of some shards is unknown. It lists
// those shards and evicts the oldest keys of each until need bytes are freed,
// because as many are to be added. It passes over shards of less than half the
// average size. In a full cache others are larger. In other caches it lists all
// shards in the end. It returns how many bytes it freed, or math.MaxInt64 once
// it went past every shard.
func (d *Disk) evictUnknown(ctx context.Context, need int64) (paid int64, err error) {
	e := &d.evictor
	if err := e.wait(ctx); err != nil {
		return 0, opError("evict", err)
	}
	defer func() { <-e.mu }()
	start := time.Now()
	now := d.fileNow()
	var page usagePage
	for range shardCount {
		e.turns.Add(1)
		shard := e.nextShard()
		if err := d.readUsage(&page); err != nil {
			return paid, err
		}
		if page.slot(shard).known {
			continue
		}
		if paid >= need && time.Since(start) > listSoft {
			return paid, ctx.Err()
		}
		list, err := d.scan(ctx, shard)
		if ctx.Err() != nil {
			return paid, ctx.Err()
		}
		if err != nil {
			continue
		}
		over := list.bytes - d.max/shardCount/2
		if over <= 0 || paid >= need {
			continue
		}
		keys := evictable(list.keys, now)
		sortByUse(keys, time.Now())
		run := evictRun{d: d, start: start, limits: evictLimits{bytes: min(need-paid, over)}}
		if _, err := run.removeFrom(ctx, shard, firstPart(keys, 2)); err != nil {
			d.log.Debug("cachetrip: store: eviction failed", "error", err)
		}
		paid += run.done.freed
	}
	return math.MaxInt64, nil
}

// evict evicts keys until the limits are reached or there is nothing more to
// evict. It goes on after an error in one shard and returns the first such error.
// The caller holds the evictor's lock.
func (d *Disk) evict(ctx context.Context, limits evictLimits) (evictProgress, error) {
	r := evictRun{d: d, limits: limits, start: time.Now()}
	err := r.run(ctx)
	if r.lastUse > 0 {
		d.setResidence(time.Duration(time.Now().UnixNano() - r.lastUse))
	}
	return r.done, cmp.Or(err, r.failed)
}

// evictRun is one run of evictions.
type evictRun struct {
	d       *Disk
	limits  evictLimits
	start   time.Time
	done    evictProgress
	lastUse int64 // when the key that was removed last had been used
	failed  error // the first error of a shard
}

// run carries out one step after the other.
func (r *evictRun) run(ctx context.Context) error {
	d, e := r.d, &r.d.evictor
	var page usagePage
	for {
		e.turns.Add(1)
		if err := d.readUsage(&page); err != nil {
			r.done.size = 0 // unknown; the caller finds out when it notes its growth
			return err
		}
		if err := ctx.Err(); err != nil {
			r.done.size = page.sum()
			return err
		}
		r.done.size, r.done.spent = page.sum(), time.Since(r.start)
		switch step := planEviction(r.done, r.limits, e.pool, d.limit()/64); step.action {
		case evictStop:
			return nil
		case evictList:
			r.list(ctx, &page)
		case evictRemove:
			e.pool = append(r.remove(ctx, step.remove), step.keep...)
		}
	}
}

// list lists the next shards and puts the keys that are to go first into the
// pool. If an origin has more than its fair share, it lists only shards that may
// have keys of that origin.
func (r *evictRun) list(ctx context.Context, page *usagePage) {
	d, e := r.d, &r.d.evictor
	start := time.Now()
	defer func() { r.done.listing += time.Since(start) }()
	now := d.fileNow()
	greedy, shards := d.shares.over(d.limit())
	var keys []*keyFiles
	var listed []int
	for range shardCount {
		if len(keys) >= sampleKeys || len(keys) >= sampleFew && time.Since(start) > listSoft {
			break
		}
		r.done.listed++
		shard := e.nextShard()
		s := page.slot(shard)
		if s.known && s.bytes == 0 || greedy != nil && !shards.has(shard) {
			continue
		}
		list, err := d.sampleShard(ctx, shard, s.bytes)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			r.failed = cmp.Or(r.failed, err)
			continue
		}
		listed = append(listed, shard)
		keys = append(keys, evictable(list.keys, now)...)
	}
	// One sample of a large shard may be all young, so the oldest keys of earlier
	// samples are compared with it.
	part := max(1, len(keys)/evictPart)
	keys = append(keys, e.old...)
	sortByUse(keys, time.Now())
	keys = slices.CompactFunc(keys, func(a, b *keyFiles) bool { return a.key == b.key })
	if greedy != nil {
		d.learnOwners(keys)
		absent := slices.DeleteFunc(listed, func(shard int) bool {
			return slices.ContainsFunc(keys, func(k *keyFiles) bool { return k.shard == shard && k.owner == greedy })
		})
		d.shares.notIn(greedy, absent)
		if len(absent) > 0 && !slices.ContainsFunc(keys, func(k *keyFiles) bool { return k.owner == greedy }) {
			r.done.listed = 0 // the other shards of the origin come next
			return
		}
	}
	pool := evictCandidates(keys, greedy)
	e.pool = slices.Clone(pool[:min(len(pool), part)])
	e.old = slices.DeleteFunc(keys[:min(len(keys), sampleKeys)], func(k *keyFiles) bool {
		return !k.sampled || slices.Contains(e.pool, k)
	})
}

// remove removes the victims, shard by shard, until the limits are reached. It
// returns the victims that it did not come to. A victim that could not be removed
// is not among them.
func (r *evictRun) remove(ctx context.Context, victims []*keyFiles) (rest []*keyFiles) {
	for len(victims) > 0 && ctx.Err() == nil {
		shard := victims[0].shard
		var here []*keyFiles
		victims = slices.DeleteFunc(victims, func(k *keyFiles) bool {
			if k.shard == shard {
				here = append(here, k)
			}
			return k.shard == shard
		})
		left, err := r.removeFrom(ctx, shard, here)
		r.failed = cmp.Or(r.failed, err)
		victims = append(left, victims...)
		if len(left) > 0 || r.limits.reached(r.done) {
			break
		}
	}
	return victims
}

// removeFrom removes keys of one shard until the limits are reached. It skips keys
// that were used or changed since they were listed. It returns the keys that it
// did not come to.
func (r *evictRun) removeFrom(ctx context.Context, shard int, keys []*keyFiles) (rest []*keyFiles, err error) {
	d := r.d
	l, err := d.lock(ctx, shard, lockWait)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		return nil, err
	}
	r.done.size = page.sum() // other processes may evict at the same moment
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
		if _, aerr := l.account(-freed, &page); err == nil {
			err = aerr
		}
	}
	return rest, opError("evict", err)
}

// evictKey removes the files of a key and returns how many bytes that frees. It
// returns 0 if the key was used or changed since it was listed.
func (l *locked) evictKey(k *keyFiles) (freed int64, err error) {
	var st fileStat
	err = l.dir.stat(k.key, &st)
	if k.hasEntries && (err != nil || st.atime != k.used) || !k.hasEntries && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var named map[string]bool
	if k.sampled && k.hasEntries {
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
		if l.dir.remove(b.name) == nil {
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
